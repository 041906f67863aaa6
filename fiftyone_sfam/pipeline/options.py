"""The options of a run that do not depend on where its pairs come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.maps import WEIGHTS, Weights
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.progress import Progress
from fiftyone_sfam.runs.blobs import MAP_TYPES
from fiftyone_sfam.runs.run_config import AUTO, PATH_KINDS, SCALES

if TYPE_CHECKING:
    from fiftyone_sfam.pipeline.pair_source import PairSource

Kind = Literal["sfam", "evidence", "path", "scales", "best"]

KINDS: tuple[Kind, ...] = ("sfam", "evidence")
"""Kinds of map that a run stores of all pairs, in one pass."""

BEST = "best"
"""Another name of the kind that is the most faithful to blurring on most networks."""

PathPairs = Literal["rank1", "false", "all"]

PATH_PAIRS: tuple[PathPairs, ...] = ("rank1", "false", "all")

NEIGHBORS = ("exact", "index")
"""Sources of the neighbors."""

# Largest number in the columns of pairs and in the database.
_LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options as in :func:`fiftyone_sfam.explain_retrieval`."""

    key: str
    patches_field: str | None = None
    embeddings: str | NDArray[np.floating] | None = None
    keep_index: str | None = None
    layer: str | None = None
    kinds: Sequence[Kind] | Literal["auto"] = KINDS
    path_pairs: PathPairs = "rank1"
    weights: Weights = "signed"
    map_dtype: Literal["int8", "float16", "float32"] = "int8"
    contributions: Literal["int8", "float16"] | None = None
    contribution_dims: int | None = None
    batch_size: int = 32
    num_workers: int | None = None
    cache_bytes: int = 2**30
    overwrite: bool = False
    update: bool = False
    check: bool = True
    progress: bool | Progress | None = None
    engine: Literal["local", "ray"] = "local"
    engine_options: Mapping[str, Any] | None = None

    @property
    def stored_kinds(self) -> tuple[str, ...]:
        """The kinds of map under the names by which they are stored."""
        return tuple(SCALES if kind == BEST else kind for kind in self._given_kinds)

    @property
    def _given_kinds(self) -> tuple[str, ...]:
        return (self.kinds,) if isinstance(self.kinds, str) else tuple(self.kinds)

    @property
    def asked(self) -> tuple[str, ...]:
        """What is left to measurement: of ``"layer"`` and ``"kinds"`` both or one."""
        layer = ("layer",) if self.layer == AUTO else ()
        return (*layer, "kinds") if self.stored_kinds == (AUTO,) else layer

    @property
    def stored_path_pairs(self) -> str | None:
        """The pairs that have maps along paths; None if none are stored."""
        along = {*PATH_KINDS, AUTO}
        return self.path_pairs if set(self.stored_kinds) & along else None

    def validate(self, source: PairSource) -> None:
        """Raise if an option is not one of those that exist."""
        self._validate_maps()
        for name, value, known in (
            ("weights", self.weights, WEIGHTS),
            ("path_pairs", self.path_pairs, PATH_PAIRS),
            ("map_dtype", self.map_dtype, MAP_TYPES),
            ("neighbors", source.neighbors, NEIGHBORS),
        ):
            if value not in known:
                raise DataError(
                    f"unknown {name} {value!r}; use one of {', '.join(known)}."
                )
        for name, number in (("batch_size", self.batch_size), ("k", source.k)):
            if not isinstance(number, (int, np.integer)) or number < 1:
                raise DataError(
                    f"{name} is {number!r}; a whole number from 1 is needed."
                )
            if number > _LARGEST:
                raise DataError(
                    f"{name} is {number}; at most {_LARGEST} can be stored."
                )
        if self.update and self.overwrite:
            raise DataError(
                "update=True keeps what is stored of the run, and overwrite=True "
                "replaces all of it; give one of them."
            )
        if self.update and self.engine != "local":
            raise DataError(
                f"update=True needs engine='local', but engine is {self.engine!r}; "
                "leave it out."
            )

    def _validate_maps(self) -> None:
        """Raise if a layer or a kind of map is not one of those that exist."""
        if self.layer is not None and not (isinstance(self.layer, str) and self.layer):
            raise DataError(
                f"layer is {self.layer!r}; give the name of a module, or '{AUTO}'."
            )
        if not isinstance(self.check, bool):
            raise DataError(f"check is {self.check!r}; give True or False.")
        kinds, known = self.stored_kinds, (*KINDS, *PATH_KINDS)
        given = list(self._given_kinds)
        if kinds == (AUTO,):
            return
        unknown = [kind for kind in kinds if kind not in known]
        if unknown or not kinds or len(set(kinds)) != len(kinds):
            raise DataError(
                f"kinds is {given!r}; choose from {', '.join(known)}, each "
                f"once ('{BEST}' is '{SCALES}'), or give '{AUTO}' alone."
            )
        if not set(kinds) & set(KINDS):
            raise DataError(
                f"kinds is {given!r}, which not every pair has; add "
                "'evidence', which takes no further pass."
            )
