"""Check the ledger's claims by changing a region and embedding the image again.

The ledger attributes a similarity to regions with a linear model of the network's head.
It does not say what the network would do with a different image. Here a region of one
image of each pair is blurred, painted over or replaced, the image is embedded again,
and the drop of the similarity is compared with the ledger's claim. The control changes
a region of the same area at a random place: the region's mask, rolled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.audit.regions.causal_result import (
    CausalCheck,
    Side,
    save_causal_check,
)
from fiftyone_sfam.audit.regions.fields import Grid, map_grids
from fiftyone_sfam.audit.regions.images import (
    CHANGES,
    Change,
    Fills,
    RegionImage,
    RegionImages,
    changed,
    make_fills,
    rolled,
)
from fiftyone_sfam.audit.regions.ledger import EVIDENCE, Ledger, load_ledger
from fiftyone_sfam.audit.regions.partitions import BACKGROUND, resample
from fiftyone_sfam.audit.statistics.bootstrap import (
    Correlation,
    check_seed,
    rank_correlation,
)
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.models.wrap import ModelLike, as_model
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import Metric, similarity
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.pairs import GALLERY, QUERY
from fiftyone_sfam.retrieval.tolerance import tolerance_of
from fiftyone_sfam.runs.blobs import unpack_maps
from fiftyone_sfam.runs.images import ItemModels
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_table import shard_name

LIMIT = 200
PHASE = "changing"


def check_causally(
    run: Run,
    model: ModelLike,
    pairs: Sequence[int] | None = None,
    *,
    ledger: Ledger | None = None,
    region: str = BACKGROUND,
    change: Change = "replace",
    side: Side = "query",
    draws: int = 3,
    limit: int = LIMIT,
    batch_size: int = 32,
    seed: int = 0,
    save: bool = True,
    progress: bool | Progress | None = False,
) -> CausalCheck:
    """Change a region of images and compare the drop with the ledger's claim.

    Parameters
    ----------
    run : Run
        The run.
    model : EmbeddingModel, str, FiftyOne model, or torch.nn.Module
        The model that the run was made with, or its name.
    pairs : sequence of int, optional
        Pairs to check. By default, the pairs of rank 1.
    ledger : Ledger, optional
        The ledger to check. By default, the stored one.
    region : str
        One of the ledger's regions.
    change : {"replace", "mean", "blur"}
        ``replace`` inserts the same region of another image (of another identity, if
        identities are known), and the mean color of that region where the other image
        has something else. ``mean`` paints the region in the mean color of the run's
        images. ``blur`` blurs it.
    side : {"query", "gallery"}
        Image of the pair to change.
    draws : int
        Number of draws of the replacement and of the control's place. Drops are
        averaged over the draws.
    limit : int
        Maximum number of pairs. If there are more, this many are drawn.
    batch_size : int
        Images per forward pass.
    seed : int
        Seed of all draws.
    save : bool
        Store the check as the run's result ``"regions_causal"``.
    progress : bool or callable, optional
        As for :func:`fiftyone_sfam.explain_retrieval`; counts images.

    Returns
    -------
    CausalCheck
        Claims and drops.

    Raises
    ------
    ModelError
        If the model's weights are not those of the run.
    RunError
        If there is no ledger.
    DataError
        If an option is invalid, or no pair can be checked.
    """
    model = as_model(model)
    check_model(run, model)
    _check_options(change, side, draws, limit)
    ledger = ledger or load_ledger(run)
    if ledger is None:
        raise RunError(
            f"the run '{run.key}' has no ledger to check; make one with build_ledger."
        )
    side_index = QUERY if side == "query" else GALLERY
    check_seed(seed)
    generator = np.random.default_rng(seed)
    column = ledger.column(region)
    rows = _chosen_rows(ledger, pairs, column, side_index, limit, generator)
    items = _side_items(ledger, side_index)[rows]
    images = RegionImages(run, ledger.field, len(ledger.regions), region)
    candidates = np.flatnonzero(ledger.item_area[:, column] > 0).tolist()
    fills = make_fills(images, change, candidates, generator)
    embeddings = torch.from_numpy(run.embeddings())
    changer = RegionChanger(run, model, images, fills, draws, seed)
    with reporting(progress) as report:
        unique = np.unique(items).tolist()
        for done in changer.change(unique, embeddings, batch_size):
            if report is not None:
                report(done, len(unique), PHASE)
    kept = np.array([item in changer.changed for item in items.tolist()])
    if not kept.any():
        raise DataError(
            "none of the pairs can be checked; the first image was skipped because: "
            f"{next(iter(changer.skipped.values()))}"
        )
    columns = _measure(
        run, ledger, changer.changed, rows[kept], side_index, column, embeddings
    )
    values: dict[str, Any] = {**columns, **_correlations(columns, seed)}
    check = CausalCheck(
        region=region,
        field=ledger.field,
        change=change,
        side=side,
        skipped=changer.skipped,
        **values,
    )
    if save:
        save_causal_check(run, check)
    return check


# --------------------------------------------------------------------------------------
# Changing images
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChangedImage:
    """Embeddings of an image and of its changed versions."""

    original: torch.Tensor  # (D,)
    changed: torch.Tensor  # with the region changed, shape (draws, D)
    control: torch.Tensor  # with the control changed, shape (draws, D)
    controls: NDArray[np.float64]  # the controls' covers of the map, (draws, h, w)


class RegionChanger:
    """Changes a region of images and embeds them again."""

    def __init__(
        self,
        run: Run,
        model: EmbeddingModel,
        images: RegionImages,
        fills: Fills,
        draws: int,
        seed: int,
    ) -> None:
        self._run = run
        self._model = model
        self._images = images
        self._fills = fills
        self._draws = draws
        self._seed = seed
        self.changed: dict[int, ChangedImage] = {}
        self.skipped: dict[int, str] = {}

    def change(
        self, items: Sequence[int], embeddings: torch.Tensor, batch_size: int
    ) -> Iterator[int]:
        """Change images; yield the number of images that are done."""
        grids = map_grids(self._run, items)
        block = max(1, batch_size // (1 + 2 * self._draws))
        self._models = ItemModels(self._run, self._model, items)
        for start in range(0, len(items), block):
            batch = list(items[start : start + block])
            for item, image in zip(batch, self._images.read(batch), strict=True):
                try:
                    if isinstance(image, str):
                        raise DataError(image)
                    result = self._embed(image, grids[item])
                    check_embedding(
                        result.original, embeddings[item], self._model.metric
                    )
                    self.changed[item] = result
                except DataError as error:
                    self.skipped[item] = str(error)
            yield start + len(batch)

    def _embed(self, image: RegionImage, grid: Grid) -> ChangedImage:
        """Embed an image and its changed versions."""
        generator = np.random.default_rng((self._seed, image.item))
        identities = self._run.items.identities
        pictures = [changed(image.pixels, np.zeros_like(image.mask), image.pixels)]
        controls, control_pictures = [], []
        for _ in range(self._draws):
            fill = self._fills.draw(image, identities, generator)
            pictures.append(changed(image.pixels, image.mask, fill))
            control = rolled(image.mask, generator)
            control_pictures.append(changed(image.pixels, control, fill))
            controls.append(control)
        tensors = [self._model.prepare(p) for p in (*pictures, *control_pictures)]
        model = self._models.of(image.item)
        embeddings = model.embed(torch.stack(tensors)).cpu()
        return ChangedImage(
            embeddings[0],
            embeddings[1 : 1 + self._draws],
            embeddings[1 + self._draws :],
            resample(np.stack(controls), grid.height, grid.width, grid.crop),
        )


def check_embedding(
    embedding: torch.Tensor, stored: torch.Tensor, metric: Metric
) -> None:
    """Raise if an image's embedding is not the one that the run stores."""
    gap = 1 - float(similarity(embedding, stored, metric))
    tolerance = tolerance_of(stored[None].numpy())
    if not gap <= tolerance.gap:
        raise DataError(
            f"its embedding differs from the run's (1 - similarity {gap:.3g}, accepted "
            f"{tolerance}); the file has changed since."
        )


# --------------------------------------------------------------------------------------
# Measuring
# --------------------------------------------------------------------------------------


def _measure(
    run: Run,
    ledger: Ledger,
    images: dict[int, ChangedImage],
    rows: NDArray[np.int64],
    side: int,
    column: int,
    embeddings: torch.Tensor,
) -> dict[str, NDArray[Any]]:
    """Return claims and drops of some rows of the ledger, as columns."""
    items, partners = _side_items(ledger, side)[rows], _side_items(ledger, 1 - side)
    evidence, metric = _evidence(run, ledger.pairs[rows], side), run.config.metric
    measured = []
    for item, partner, claims in zip(
        items.tolist(), partners[rows].tolist(), evidence, strict=True
    ):
        image, embedding = images[item], embeddings[partner]
        before = float(similarity(image.original, embedding, metric))
        after = similarity(image.changed, embedding, metric).numpy()
        control = similarity(image.control, embedding, metric).numpy()
        control_claims = (image.controls * claims).sum(axis=(1, 2))
        measured.append(
            (
                before,
                before - after.mean(),
                control_claims.mean(),
                before - control.mean(),
            )
        )
    score, drop, control_claim, control_drop = np.array(measured, np.float64).T
    return {
        "pairs": ledger.pairs[rows],
        "items": items,
        "score": score,
        "area": ledger.item_area[items, column].astype(np.float64),
        "claim": ledger.shares[rows, side, column].astype(np.float64),
        "drop": drop,
        "control_claim": control_claim,
        "control_drop": control_drop,
    }


def _evidence(run: Run, pairs: NDArray[np.int64], side: int) -> NDArray[np.float32]:
    """Read the evidence maps of one side of pairs, shard by shard."""
    shards, rows = run.locate(2 * np.asarray(pairs, dtype=np.int64) + side)
    maps = np.zeros((len(pairs), *run.config.map_shape[1:]), dtype=np.float32)
    for number in np.unique(shards).tolist():
        shard = run.store.get(shard_name(number))
        places = np.flatnonzero(shards == number)
        maps[places] = unpack_maps(
            shard[f"{EVIDENCE}_values"][rows[places]],
            shard[f"{EVIDENCE}_scale"][rows[places]],
        )
    return maps


def check_model(run: Run, model: EmbeddingModel) -> None:
    """Raise if a model is not the one that the run was made with."""
    weights_hash = model.weights_hash()
    if weights_hash != run.config.weights_hash:
        raise ModelError(
            f"the weights of model '{model.name}' ({weights_hash}) are not those that "
            f"the run '{run.key}' was made with ('{run.config.model}', "
            f"{run.config.weights_hash}); use that model, or make a new run."
        )


def _check_options(change: str, side: str, draws: int, limit: int) -> None:
    if change not in CHANGES:
        raise DataError(f"unknown change {change!r}; use one of {', '.join(CHANGES)}.")
    if side not in ("query", "gallery"):
        raise DataError(f"unknown side {side!r}; use query or gallery.")
    for name, value in (("draws", draws), ("limit", limit)):
        if value < 1:
            raise DataError(f"{name} is {value!r}; use a whole number from 1.")


def _chosen_rows(
    ledger: Ledger,
    pairs: Sequence[int] | None,
    column: int,
    side: int,
    limit: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Return the rows of the ledger to check, in order."""
    if pairs is None:
        wanted = ledger.rank == 1
    else:
        wanted = np.isin(ledger.pairs, np.asarray(list(pairs), dtype=np.int64))
    rows = np.flatnonzero(wanted & ~np.isnan(ledger.shares[:, side, column]))
    if len(rows) == 0:
        raise DataError(
            "none of the pairs is in the ledger with regions on this side; choose "
            "other pairs."
        )
    if len(rows) > limit:
        rows = np.sort(generator.choice(rows, limit, replace=False))
    return rows


def _side_items(ledger: Ledger, side: int) -> NDArray[np.int64]:
    return (ledger.query if side == QUERY else ledger.gallery).astype(np.int64)


def _correlations(
    columns: dict[str, NDArray[Any]], seed: int
) -> dict[str, Correlation]:
    claim, drop, items = columns["claim"], columns["drop"], columns["items"]
    positive = columns["score"] > 0
    score = np.where(positive, columns["score"], np.nan)
    compared = {
        "correlation": (claim, drop),
        "share_correlation": (claim / score, drop / score),
        "control_correlation": (columns["control_claim"], columns["control_drop"]),
        "crossed_correlation": (claim, columns["control_drop"]),
        "area_correlation": (columns["area"], drop),
    }
    correlations = {}
    for name, (first, second) in compared.items():
        rows = positive if name == "share_correlation" else slice(None)
        correlations[name] = rank_correlation(
            first[rows], second[rows], items[rows], seed
        )
    return correlations
