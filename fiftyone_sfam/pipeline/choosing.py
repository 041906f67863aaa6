"""Choose the layer and the kinds of map of a run by measurement, before it starts.

A sample of pairs is explained in all ways that can be chosen, and its queries are
masked in the order of each map, see :mod:`fiftyone_sfam.audit.faithfulness.sample`. The
choice is stored with the run that is being made, so that a resumed run keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.path import attribute_paths, fullest_image
from fiftyone_sfam.attribution.scales import attribute_kind, path_layers
from fiftyone_sfam.audit.faithfulness.maps import candidate_layers, draw_donors
from fiftyone_sfam.audit.faithfulness.sample import Sample, hiding_of, whole_turns
from fiftyone_sfam.data.images import Skipped, read_image
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.pipeline.options import KINDS
from fiftyone_sfam.pipeline.passes import CHOSEN
from fiftyone_sfam.pipeline.prepared import prepare_item
from fiftyone_sfam.retrieval.embeddings import Embeddings, check_usable
from fiftyone_sfam.runs.blobs import BlobStore, from_json_array, json_array
from fiftyone_sfam.runs.map_check import FEWEST_QUERIES
from fiftyone_sfam.runs.run_config import (
    AUTO,
    PATH,
    PATH_KINDS,
    SCALES,
    RunSettings,
)

if TYPE_CHECKING:
    from fiftyone_sfam.data.items import Items
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.network.layouts import LayerInfo
    from fiftyone_sfam.pipeline.options import RunOptions
    from fiftyone_sfam.pipeline.pair_source import PairSource
    from fiftyone_sfam.runs.run import Run

QUERIES = 48
"""Queries that are masked."""

EVIDENCE, SFAM = "evidence", "sfam"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and by which figures.

    Attributes
    ----------
    layer : str or None
        The layer; None if it was not to be chosen, or the model's own is kept.
    kinds : tuple of str or None
        The kinds of map; None if they were not to be chosen.
    asked : tuple of str
        Of ``"layer"`` and ``"kinds"`` those that were to be chosen.
    pairs : int
        Pairs that were measured.
    figures : dict of str to tuple of float
        Margin of insertion over deletion of each candidate, with its 95 % interval.
    sentence : str
        The choice in a sentence.
    """

    layer: str | None
    kinds: tuple[str, ...] | None
    asked: tuple[str, ...]
    pairs: int
    figures: dict[str, tuple[float, ...]]
    sentence: str

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Choice:
        """Restore a choice from plain data."""
        kinds = stored["kinds"]
        return cls(
            **{
                **stored,
                "kinds": None if kinds is None else tuple(kinds),
                "asked": tuple(stored["asked"]),
                "figures": {name: tuple(of) for name, of in stored["figures"]},
            }
        )

    def applied(
        self, settings: RunSettings, model: EmbeddingModel
    ) -> tuple[RunSettings, EmbeddingModel]:
        """Return the settings and the model of the run."""
        if self.kinds is not None:
            has_paths = bool(set(self.kinds) & set(PATH_KINDS))
            which = settings.path_pairs if has_paths else None
            settings = replace(settings, kinds=self.kinds, path_pairs=which)
        return settings, model if self.layer is None else model.with_layer(self.layer)

    def to_dict(self) -> dict[str, Any]:
        """Return the choice as plain data."""
        kinds = None if self.kinds is None else list(self.kinds)
        # Names of layers have dots, which keys of the database must not have.
        figures = [[name, list(values)] for name, values in self.figures.items()]
        asked = list(self.asked)
        return asdict(self) | {"kinds": kinds, "asked": asked, "figures": figures}


def chosen_for(
    store: BlobStore,
    updated: Run | None,
    items: Items,
    model: EmbeddingModel,
    source: PairSource,
    given: Embeddings | None,
    options: RunOptions,
) -> Choice | None:
    """Choose what the options leave to measurement; None if they leave nothing.

    A resumed run keeps its choice, and so does an updated one.
    """
    if not options.asked:
        return None
    if updated is not None:
        stored = updated.config.chosen
        before = None if stored is None else Choice.of(stored)
        if before is None or before.asked != options.asked:
            settings = " and ".join(f"{name}='{AUTO}'" for name in options.asked)
            raise RunError(
                f"the run '{options.key}' was not made with {settings}, so an update "
                "would not know its choice; give its layer and kinds, or "
                "overwrite=True instead of update=True."
            )
        return before
    if CHOSEN in store.names():
        return Choice.of(from_json_array(store.get(CHOSEN)["json"]))
    choice = _Choosing(items, model, source, given, options).choice()
    store.put(CHOSEN, {"json": json_array(choice.to_dict())})
    return choice


class _Choosing:
    """Measures the candidates on a sample of pairs."""

    def __init__(
        self,
        items: Items,
        model: EmbeddingModel,
        source: PairSource,
        given: Embeddings | None,
        options: RunOptions,
    ) -> None:
        self._items, self._given, self._options = items, given, options
        # The run must find its own layer, whatever this sample is.
        self._model = model.with_layer(model.requested_layer)
        self._sample = Sample(model.metric, options.batch_size)
        self._vectors: dict[int, NDArray[np.float32]] = {}
        pairs = source.draw(items, self._embedded, model.metric, QUERIES)
        self._pairs = whole_turns(pairs)

    def choice(self) -> Choice:
        """Mask the queries in the order of all candidates, and choose."""
        images = self._readable(self._pairs[:, 0].tolist())
        if not images:
            return self._decide(())
        batch = torch.stack(list(images.values()))
        first = fullest_image(batch)
        model, clear = self._of(self._model, [list(images)[first]]), batch[first]
        own = model.find_layer(clear[None]).name
        asked = self._options.asked
        layers = candidate_layers(model, clear) if "layer" in asked else ()
        models = {own: self._model, **{n: self._model.with_layer(n) for n in layers}}
        scaled = path_layers(model, clear) if "kinds" in asked else ()
        paths = self._path_kinds(model, clear)
        involved = {int(q): [int(q), int(p)] for q, p in self._pairs}
        usable = np.ones(len(self._items), dtype=bool)
        donors = draw_donors(self._items.identities, usable, involved, 0)
        for number, (query, partner) in enumerate(self._pairs.tolist()):
            if query not in images:
                continue
            image, one = images[query], self._of(self._model, [query])
            try:
                hiding = hiding_of(number, self._image, donors, query)
            except DataError:
                continue  # The image whose patches were to hide it cannot be read.
            vector = torch.from_numpy(self._vectors[partner])
            maps = self._maps(query, image, vector, models, paths, scaled)
            head = one.linearize(image[None])
            self._sample.add(query, head, one, image, vector, maps, hiding)
        return self._decide(tuple(models), paths)

    def _decide(self, layers: Sequence[str], paths: Sequence[str] = ()) -> Choice:
        """Choose among the candidates; keep the defaults unless others are better."""
        asked, sample = self._options.asked, self._sample
        if len(sample) < FEWEST_QUERIES:
            return Choice(
                layer=None,
                kinds=KINDS if "kinds" in asked else None,
                asked=asked,
                pairs=len(sample),
                figures={},
                sentence="Nothing was chosen by measurement: "
                f"{counted(len(sample), 'pair')} could be masked, and {FEWEST_QUERIES} "
                "are needed; these are the defaults.",
            )
        names = [_at(EVIDENCE, layer) for layer in layers]
        best = sample.best(names)
        layer = layers[names.index(best)]
        parts, kinds = [], None
        if "layer" in asked:
            parts.append(f"layer '{layer}' ({self._compared(best, names)})")
        if "kinds" in asked:
            named = {best: EVIDENCE, _at(SFAM, layer): SFAM}
            candidates = [*named, *paths]
            first = sample.best(candidates)
            kind = named.get(first, first)
            # These two cost no further pass, and every pair has them.
            kinds = (kind, *(other for other in (EVIDENCE, SFAM) if other != kind))
            parts.append(f"maps of kind '{kind}' ({self._compared(first, candidates)})")
        figures = {name: astuple(sample.margin(name)) for name in sample.names}
        return Choice(
            layer=None if layer == layers[0] else layer,
            kinds=kinds,
            asked=asked,
            pairs=len(sample),
            figures=figures,
            sentence=f"Chosen by measurement on {len(sample)} pairs: "
            f"{' and '.join(parts)}.",
        )

    def _compared(self, best: str, names: Sequence[str]) -> str:
        """Say how much better a candidate is than the default, the first of them."""
        value = self._sample.margin(best).value
        text = f"insertion minus deletion {value:.3f}"
        if best == names[0]:
            return f"{text}; no other is certainly better" if names[1:] else text
        return f"{text}; {names[0]} {self._sample.margin(names[0]).value:.3f}"

    # -- maps --------------------------------------------------------------------------

    def _maps(
        self,
        query: int,
        image: Tensor,
        partner: Tensor,
        models: dict[str, EmbeddingModel],
        paths: Sequence[str],
        scaled: Sequence[LayerInfo],
    ) -> dict[str, Tensor]:
        """Explain a query in all ways that can be chosen."""
        rows, maps = torch.zeros(1, dtype=torch.long), {}
        for layer, at_layer in models.items():
            head = self._of(at_layer, [query]).linearize(image[None])
            partners = partner[None].to(head.embedding.device)
            found = attribute(
                head,
                rows.to(partners.device),
                partners,
                self._model.metric,
                self._options.weights,
            )
            maps[_at(EVIDENCE, layer)] = found.evidence[0]
            maps[_at(SFAM, layer)] = found.sfam[0]
        model = self._of(self._model, [query])
        for kind in paths:
            maps[kind] = attribute_kind(
                model,
                image[None],
                rows,
                partner[None],
                several_scales=kind == SCALES,
                layers=scaled,
            ).path[0]
        return maps

    def _path_kinds(self, model: EmbeddingModel, image: Tensor) -> tuple[str, ...]:
        """Return the kinds of path that can be chosen of the network."""
        if "kinds" not in self._options.asked:
            return ()
        vector = next(iter(self._vectors.values()))
        try:
            attribute_paths(
                model,
                image[None],
                torch.zeros(1, dtype=torch.long),
                torch.from_numpy(vector)[None],
            )
        except ModelError:
            # The network cannot be differentiated down to its input.
            return ()
        return SCALES, PATH

    # -- images ------------------------------------------------------------------------

    def _image(self, item: int) -> Tensor:
        return prepare_item(self._items, self._model, item, read_image).tensor

    def _readable(
        self, items: Sequence[int], reasons: dict[int, str] | None = None
    ) -> dict[int, Tensor]:
        """Prepare the images that can be read; put the reasons of others down."""
        images = {}
        for item in items:
            try:
                images[item] = self._image(item)
            except DataError as error:
                if reasons is not None:
                    reasons[item] = str(error)
        return images

    def _of(self, model: EmbeddingModel, items: Sequence[int]) -> EmbeddingModel:
        """Return a model with the further inputs of items, if it takes any."""
        if self._items.inputs is None:
            return model
        rows = list(items)
        return model.with_inputs({n: v[rows] for n, v in self._items.inputs.items()})

    def _embedded(self, chosen: NDArray[np.int64]) -> Embeddings:
        """Return the embeddings of some items: the given ones, or computed."""
        if self._given is not None:
            found = self._given.take(chosen)
        else:
            found = self._computed(chosen)
        self._vectors |= dict(zip(chosen.tolist(), found.vectors, strict=True))
        return found

    def _computed(self, chosen: NDArray[np.int64]) -> Embeddings:
        vectors: dict[int, NDArray[np.float32]] = {}
        reasons: dict[int, str] = {}
        size = self._options.batch_size
        for start in range(0, len(chosen), size):
            images = self._readable(chosen[start : start + size].tolist(), reasons)
            if images:
                model = self._of(self._model, list(images))
                embedded = model.embed(torch.stack(list(images.values())))
                rows = embedded.cpu().numpy()
                problems = dict(zip(images, check_usable(rows), strict=True))
                reasons |= {i: why for i, why in problems.items() if why is not None}
                vectors |= dict(zip(images, rows, strict=True))
        width = len(next(iter(vectors.values()))) if vectors else 0
        empty = np.zeros(width, dtype=np.float32)
        items, paths = chosen.tolist(), self._items.filepaths
        return Embeddings(
            np.stack([vectors.get(item, empty) for item in items]).astype(np.float32),
            np.array([item not in reasons for item in items]),
            tuple(
                Skipped(place, self._items.ids[item], paths[item], reasons[item])
                for place, item in enumerate(items)
                if item in reasons
            ),
        )


def _at(kind: str, layer: str) -> str:
    return f"{kind} at {layer}"
