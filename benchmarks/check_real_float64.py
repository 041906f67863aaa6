"""Compare batched and single maps in float64, for ``check_real.py``.

In float32, rounding adds up over the layers of some networks, and the maps of a batch
differ from those of a single pair by more than the bound. In float64 the two are the
same, unless the images of a batch affect each other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fiftyone_sfam import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.network.metric import normalizer
from fiftyone_sfam.runs.run import Run


def run_batches(
    run: Run, chosen: Sequence[int]
) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Return the items of each batch of a run, and those of some of its pairs."""
    batches = [
        run.plan.batch_of(shard, len(run.items)).tolist()
        for shard in range(run.plan.num_shards)
    ]
    ends = zip(run.pairs.query[chosen], run.pairs.gallery[chosen], strict=True)
    return batches, [(int(query), int(gallery)) for query, gallery in ends]


def float64_error(
    model: EmbeddingModel,
    inputs: Mapping[int, Tensor],
    batches: Iterable[Sequence[int]],
    pairs: Sequence[tuple[int, int]],
) -> float:
    """Compare the maps of pairs in batches with those of each pair alone, in float64.

    Parameters
    ----------
    model : EmbeddingModel
        A model whose layer is known. A copy of its network runs in float64.
    inputs : mapping of int to Tensor
        The network's input for each item, (3, H, W).
    batches : iterable of sequences of int
        The items that the network runs together.
    pairs : sequence of tuple of int
        Query and gallery items.

    Returns
    -------
    float
        The largest difference of an embedding or a map, relative to the largest value.
    """
    network = copy.deepcopy(model.network).double()
    doubled = EmbeddingModel(
        network, nn.Identity(), layer=model.layer, metric=model.metric
    )

    def run(items: Sequence[int]) -> LinearizedHead:
        return doubled.linearize(torch.stack([inputs[item] for item in items]).double())

    needed = {item for pair in pairs for item in pair}
    places: dict[int, tuple[LinearizedHead, int]] = {}
    for batch in batches:
        if needed & set(batch):
            head = run(batch)
            places |= {item: (head, row) for row, item in enumerate(batch)}
    worst = 0.0
    for pair in pairs:
        alone = run(pair)
        for side, item in enumerate(pair):
            head, row = places[item]
            other, at = places[pair[1 - side]]
            batched = _values(head, row, other.embedding[at], model)
            single = _values(alone, side, alone.embedding[1 - side], model)
            for together, by_itself in zip(batched, single, strict=True):
                gap = (together - by_itself).abs().max() / by_itself.abs().max()
                worst = max(worst, float(gap))
    return worst


def _values(
    head: LinearizedHead, row: int, partner: Tensor, model: EmbeddingModel
) -> tuple[Tensor, Tensor, Tensor]:
    """Return an image's embedding and its evidence and signed sfam map, unrounded."""
    embedding = head.embedding[row]
    cotangent = partner / normalizer(embedding, partner, model.metric)
    evidence, importance = head.contributions(torch.tensor([row]), cotangent[None])
    sfam = torch.tensordot(importance[0], head.feature_map[row], dims=1)
    return embedding, evidence[0], sfam
