"""What findings are built from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.finding import Evidence, Finding
from fiftyone_sfam.audit.suspects.measures import Measured
from fiftyone_sfam.audit.suspects.sources import PairLookup
from fiftyone_sfam.audit.suspects.space import compared_with
from fiftyone_sfam.retrieval.search import UNKNOWN


@dataclass(frozen=True)
class Context:
    """The images of a run, and the measures that findings are built from."""

    ids: Sequence[str] | NDArray[np.str_]  # of all items: samples, or detections
    sample_ids: Sequence[str] | NDArray[np.str_]  # of all items
    metric: str
    used: NDArray[np.int64]  # item of each compared image, shape (N,)
    names: tuple[str, ...]  # of the identities, by code
    measured: Measured
    lookup: PairLookup

    def members(self, identity: int) -> tuple[int, ...]:
        """Return the items of an identity."""
        members = self.measured.space.members[identity]
        return tuple(self.used[members].tolist())

    def name_of(self, image: int) -> str:
        """Return the identity of an image; an empty string without one."""
        code = int(self.measured.space.identities[image])
        return "" if code == UNKNOWN else self.names[code]

    def similarity(self, image: int, identity: int) -> float:
        """Return the mean similarity, or distance, to the nearest of an identity."""
        space = self.measured.space
        members = space.members[identity]
        members = members[members != image]
        near = np.sort(space.raw_nearness(np.array([image]), members)[0])[::-1]
        return self.displayed(float(near[: int(compared_with(len(members)))].mean()))

    def displayed(self, nearness: float) -> float:
        """Return a nearness as a similarity or a distance."""
        return nearness if self.metric == "cosine" else -nearness

    def finding(
        self,
        kind: str,
        score: float,
        items: Iterable[int],
        pairs: tuple[int, ...],
        identities: tuple[str, ...],
        evidence: Evidence,
        sentence: str,
        *,
        proposal: str,
        changes: Iterable[int] = (),
        identity: str = "",
    ) -> Finding:
        """Complete a finding with its samples."""
        items = tuple(sorted(items))
        samples = dict.fromkeys(str(self.sample_ids[item]) for item in items)
        return Finding(
            kind=kind,
            score=score,
            sample_ids=tuple(samples),
            items=items,
            pairs=pairs,
            identities=identities,
            evidence=evidence,
            sentence=sentence,
            proposal=proposal,
            changes=tuple(sorted(changes)),
            identity=identity,
        )
