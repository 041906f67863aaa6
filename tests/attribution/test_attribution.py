"""Every map, on numbers that are worked out by hand.

Two channels, two positions. The derivations below are for these feature maps::

    A_q   channel 0: 1 3    channel 1: 2 0    average (2, 1), of norm sqrt(5)
    A_g   channel 0: 4 2    channel 1: 0 8    average (3, 4), of norm 5

With average pooling as the head, ``<e_q, e_g> = 2*3 + 1*4 = 10``, and the derivative
after one position of a channel is the partner's value of that channel over 2 Z.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import pytest
import torch
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import (
    Attribution,
    attribute,
    attribute_contrast,
    attribute_difference,
    attribute_point,
    channel_weights,
)
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.network.metric import distance, normalizer, similarity
from networks import linearize_head

MAP_Q = torch.tensor([[[1.0, 3.0]], [[2.0, 0.0]]])
MAP_G = torch.tensor([[[4.0, 2.0]], [[0.0, 8.0]]])

COSINE_Z = 5 * sqrt(5)
EUCLIDEAN_Z = (5 + 25) / 2
METRICS = pytest.mark.parametrize(
    ("metric", "z"), [("cosine", COSINE_Z), ("euclidean", EUCLIDEAN_Z)]
)


def average(maps: Tensor) -> Tensor:
    return maps.mean((2, 3))


def pair(head: Callable[[Tensor], Tensor] = average) -> LinearizedHead:
    """The query is row 0, the gallery image row 1."""
    return linearize_head(head, torch.stack([MAP_Q, MAP_G]))


def sides(head: LinearizedHead, *options: str) -> Attribution:
    return attribute(head, torch.tensor([0, 1]), head.embedding[[1, 0]], *options)


def check(actual: Tensor, expected: object) -> None:
    torch.testing.assert_close(
        actual, torch.tensor(expected), rtol=1e-6, atol=1e-7, check_stride=False
    )


# --------------------------------------------------------------------------------------
# Similarity
# --------------------------------------------------------------------------------------


def test_cosine_of_a_pair() -> None:
    query, gallery = pair().embedding
    check(normalizer(query, gallery, "cosine"), COSINE_Z)
    check(similarity(query, gallery, "cosine"), 10 / COSINE_Z)
    check(distance(query, gallery, "cosine"), 1 - 10 / COSINE_Z)


def test_euclidean_similarity_of_a_pair() -> None:
    query, gallery = pair().embedding
    check(normalizer(query, gallery, "euclidean"), 15.0)
    # d^2 = 1 + 9, so 1 - 10 / (5 + 25) as well as 10 / 15.
    check(similarity(query, gallery, "euclidean"), 2 / 3)
    check(distance(query, gallery, "euclidean"), sqrt(10))


def test_euclidean_similarity_of_unit_vectors_is_their_cosine() -> None:
    one, other = torch.tensor([0.6, 0.8]), torch.tensor([1.0, 0.0])
    check(similarity(one, other, "euclidean"), 0.6)
    check(similarity(one, other, "cosine"), 0.6)


def test_similarity_broadcasts_queries_against_a_gallery() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    gallery = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, -1.0]])
    found = similarity(queries[:, None], gallery[None], "cosine")
    check(found, [[0.6, 1.0, 0.0], [0.8, 0.0, -1.0]])


@pytest.mark.parametrize("function", [normalizer, similarity, distance])
def test_unknown_metric(function: Callable[..., Tensor]) -> None:
    one = torch.ones(2)
    with pytest.raises(ValueError, match=r"'manhattan'; use one of cosine, euclidean"):
        function(one, one, "manhattan")


# --------------------------------------------------------------------------------------
# Evidence, importance, sfam
# --------------------------------------------------------------------------------------


@METRICS
def test_evidence_and_importance(metric: str, z: float) -> None:
    # Query:   channel 0 times 3 is 3 9, channel 1 times 4 is 8 0.
    # Gallery: channel 0 times 2 is 8 4, channel 1 times 1 is 0 8.
    result = sides(pair(), metric)
    check(result.score, [10 / z, 10 / z])
    check(
        result.evidence,
        [[[11 / (2 * z), 9 / (2 * z)]], [[8 / (2 * z), 12 / (2 * z)]]],
    )
    # On both sides a_c b_c / Z, with the averages a and b.
    check(result.cis, [[6 / z, 4 / z]] * 2)
    check(result.remainder, [0.0, 0.0])


@METRICS
def test_signed_sfam(metric: str, z: float) -> None:
    # Query: 6*1 + 4*2 and 6*3 + 4*0. Gallery: 6*4 + 4*0 and 6*2 + 4*8.
    check(sides(pair(), metric).sfam, [[[14 / z, 18 / z]], [[24 / z, 44 / z]]])


@METRICS
def test_minmax_sfam(metric: str, z: float) -> None:
    # The importances 6 and 4 become the weights 1 and 0, whatever Z is.
    result = sides(pair(), metric, "minmax")
    check(result.sfam, [[[1.0, 3.0]], [[4.0, 2.0]]])
    check(result.cis, [[6 / z, 4 / z]] * 2)


def test_importance_for_average_pooling_and_cosine_is_the_papers() -> None:
    # The product of the two normalized embeddings, channel by channel.
    result = sides(pair(), "cosine")
    query = [2 / sqrt(5), 1 / sqrt(5)]
    gallery = [3 / 5, 4 / 5]
    products = [query[0] * gallery[0], query[1] * gallery[1]]
    check(result.cis[0], products)
    check(result.score[0], sum(products))


def test_channel_weights() -> None:
    scores = torch.tensor([[-1.0, 0.0, 3.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    check(channel_weights(scores, "signed"), scores.tolist())
    # Where all channels count the same, none is left out.
    check(channel_weights(scores, "minmax"), [[0.0, 0.25, 1.0], [1.0] * 3, [1.0] * 3])


def test_unknown_weights() -> None:
    with pytest.raises(ValueError, match=r"'relu'; use one of signed, minmax"):
        channel_weights(torch.ones(1, 2), "relu")
    with pytest.raises(ValueError, match=r"'relu'; use one of signed, minmax"):
        sides(pair(), "cosine", "relu")


# --------------------------------------------------------------------------------------
# Contrast and difference
# --------------------------------------------------------------------------------------


def contrast(metric: str) -> Attribution:
    """True match (3, 4), impostor (0, 2)."""
    head = pair()
    return attribute_contrast(
        head,
        torch.tensor([0]),
        head.embedding[[1]],
        torch.tensor([[0.0, 2.0]]),
        metric,
    )


def test_contrast_of_cosines() -> None:
    # Z is 5 sqrt(5) for the true match, 2 sqrt(5) for the impostor, so that
    # e_t/Z_t - e_i/Z_i = (3, 4 - 5) / (5 sqrt(5)).
    z = COSINE_Z
    result = contrast("cosine")
    check(result.score, [2 / sqrt(5) - 1 / sqrt(5)])
    check(result.evidence, [[[(3 - 2) / (2 * z), 9 / (2 * z)]]])
    check(result.cis, [[12 / (2 * z), -2 / (2 * z)]])
    check(result.sfam, [[[(12 - 4) / (2 * z), 36 / (2 * z)]]])
    check(result.remainder, [0.0])


def test_contrast_of_euclidean_similarities() -> None:
    # Z is 15 for the true match, (5 + 4) / 2 for the impostor, so that
    # e_t/Z_t - e_i/Z_i = (1/5, 4/15 - 4/9) = (9, -8) / 45.
    result = contrast("euclidean")
    check(result.score, [10 / 15 - 2 / 4.5])
    check(result.evidence, [[[(9 - 16) / 90, 27 / 90]]])
    check(result.cis, [[36 / 90, -16 / 90]])
    check(result.sfam, [[[(36 - 32) / 90, 108 / 90]]])
    check(result.remainder, [0.0])


@METRICS
def test_difference(metric: str, z: float) -> None:
    # e_q = (2, 1), of positions (1, 2) and (3, 0); e_g = (3, 4), of (4, 0) and (2, 8).
    head = pair()
    query, gallery = (
        attribute_difference(
            head,
            torch.tensor([row]),
            head.embedding[[1 - row]],
            metric,
            side,
        )
        for row, side in enumerate(("query", "gallery"))
    )
    if metric == "cosine":
        u = 2 / sqrt(5) - 3 / 5, 1 / sqrt(5) - 4 / 5
        (a, b), (c, d) = (u[0] / sqrt(5), u[1] / sqrt(5)), (u[0] / 5, u[1] / 5)
        squared = 2 - 2 * 10 / (5 * sqrt(5))
    else:
        (a, b), (c, d) = (-1 / z, -3 / z), (-1 / z, -3 / z)
        squared = 10 / z
    check(query.evidence, [[[(a + 2 * b) / 2, 3 * a / 2]]])
    check(gallery.evidence, [[[2 * c, c + 4 * d]]])
    check(query.cis, [[2 * a, b]])
    check(gallery.cis, [[3 * c, 4 * d]])
    check(query.sfam, [[[2 * a + 2 * b, 6 * a]]])
    check(gallery.sfam, [[[12 * c, 6 * c + 32 * d]]])
    check(query.score, [2 * a + b])
    check(gallery.score, [3 * c + 4 * d])
    check(query.score - gallery.score, [squared])


def test_a_difference_of_cosines_does_not_see_the_length_of_a_partner() -> None:
    head = pair()
    row = torch.tensor([0])
    first, second = (
        attribute_difference(head, row, head.embedding[[1]] * scale) for scale in (1, 7)
    )
    check(first.evidence, second.evidence.tolist())


def test_unknown_side_of_a_difference() -> None:
    head = pair()
    with pytest.raises(ValueError, match=r"'left'; use one of query, gallery"):
        attribute_difference(
            head,
            torch.tensor([0]),
            head.embedding[[1]],
            side="left",
        )


# --------------------------------------------------------------------------------------
# Point
# --------------------------------------------------------------------------------------


@METRICS
@pytest.mark.parametrize(
    ("row", "column", "products"),
    [
        # Positions contribute (1, 2)/2 and (3, 0)/2 to e_q, (4, 0)/2 and (2, 8)/2 to
        # e_g: inner products of 4/4 and 18/4, and of 12/4 and 6/4.
        (0, 0, [1.0, 4.5]),
        (0, 1, [3.0, 1.5]),
        (1, 0, [1.0, 3.0]),
        (1, 1, [4.5, 1.5]),
    ],
)
def test_point(
    metric: str, z: float, row: int, column: int, products: list[float]
) -> None:
    head = pair()
    other = 1 - row
    found = attribute_point(head, row, (0, column), head, other, metric)
    check(found, [[value / z for value in products]])
    check(found.sum(), sides(head, metric).evidence[row, 0, column].item())


@pytest.mark.parametrize("position", [(-1, 0), (1, 0), (0, -1), (0, 2)])
def test_point_outside_the_map(position: tuple[int, int]) -> None:
    head = pair()
    with pytest.raises(ValueError, match=r"outside the feature map of 1 x 2 \(rows"):
        attribute_point(head, 0, position, head, 1)


# --------------------------------------------------------------------------------------
# Other heads
# --------------------------------------------------------------------------------------


def test_affine_head_leaves_its_bias() -> None:
    # W = (1 -1; 2 0), b = (1, -2): e_q = (2, 2), e_g = (0, 4), Z = 8 sqrt(2).
    linear = nn.Linear(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
        linear.bias.copy_(torch.tensor([1.0, -2.0]))
    result = sides(pair(lambda maps: linear(average(maps))), "cosine")
    z = 8 * sqrt(2)
    check(result.score, [8 / z, 8 / z])
    # Query: W' e_g = (8, 0) over two positions. Gallery: W' e_q = (6, -2).
    check(
        result.evidence,
        [[[8 / (2 * z), 24 / (2 * z)]], [[24 / (2 * z), (12 - 16) / (2 * z)]]],
    )
    check(result.cis, [[32 / (2 * z), 0.0], [36 / (2 * z), -16 / (2 * z)]])
    # <b, e_g> = -8 and <b, e_q> = 2 - 4.
    check(result.remainder, [-8 / z, -2 / z])


def test_max_pooling_puts_everything_at_the_largest_position() -> None:
    # e_q = (3, 2) of positions 1 and 0, e_g = (4, 8) of positions 0 and 1.
    result = sides(pair(lambda maps: maps.amax((2, 3))), "euclidean")
    z = (13 + 80) / 2
    check(result.score, [28 / z, 28 / z])
    check(result.evidence, [[[16 / z, 12 / z]], [[12 / z, 16 / z]]])
    check(result.cis, [[12 / z, 16 / z]] * 2)
    check(result.remainder, [0.0, 0.0])


def test_generalized_mean_pooling() -> None:
    # Root mean squares of (1, 7) and (7, 1) are 5; the derivative after one of the
    # numbers is the number over 2 * 5. With the partner (3, 4):
    # channel 0 is 3 * (1, 49) / 10, channel 1 is 4 * (49, 1) / 10.
    maps = torch.tensor([[[[1.0, 7.0]], [[7.0, 1.0]]]])
    head = linearize_head(lambda a: a.square().mean((2, 3)).sqrt(), maps)
    result = attribute(head, torch.tensor([0]), torch.tensor([[3.0, 4.0]]))
    z = 5 * sqrt(2) * 5
    check(result.evidence, [[[19.9 / z, 15.1 / z]]])
    check(result.cis, [[15 / z, 20 / z]])
    check(result.score, [35 / z])
    check(result.remainder, [0.0])


def test_curved_head_leaves_a_remainder() -> None:
    # The squares of the averages are (4, 1); moving along A doubles what they are, so
    # the evidence carries twice the score.
    head = linearize_head(lambda a: average(a).square(), MAP_Q[None])
    check(head.jvp(head.feature_map), [[8.0, 2.0]])
    result = attribute(head, torch.tensor([0]), torch.tensor([[1.0, 0.0]]))
    # Derivative 2 * 2 / 2 after each position of channel 0.
    check(result.evidence, [[[2 / sqrt(17), 6 / sqrt(17)]]])
    check(result.score, [4 / sqrt(17)])
    check(result.remainder, [-4 / sqrt(17)])


def test_an_axis_of_the_embedding_is_no_channel() -> None:
    # Flatten + linear with as many axes as channels, and axis 0 made of channel 1 at
    # position 0, axis 1 of channel 0 at position 0: e_q = (2, 1), e_g = (0, 4).
    linear = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    result = sides(pair(lambda maps: linear(maps.flatten(1))), "cosine")
    z = 4 * sqrt(5)
    # Multiplying the embeddings would say (0, 4) / Z: the wrong channel.
    check(result.cis, [[4 / z, 0.0], [4 / z, 0.0]])
    check(result.evidence, [[[4 / z, 0.0]], [[4 / z, 0.0]]])
    check(result.remainder, [0.0, 0.0])


# --------------------------------------------------------------------------------------
# Batches, types, modes
# --------------------------------------------------------------------------------------


def test_rows_may_repeat_come_in_any_order_and_be_none() -> None:
    head = pair()
    partners = torch.tensor([[3.0, 4.0], [2.0, 1.0], [0.0, 2.0], [3.0, 4.0]])
    result = attribute(head, torch.tensor([0, 1, 0, 0]), partners)
    z, zi = COSINE_Z, 2 * sqrt(5)
    # The impostor (0, 2) sees channel 1 only: 2 * 2 at position 0.
    check(
        result.evidence,
        [
            [[11 / (2 * z), 9 / (2 * z)]],
            [[8 / (2 * z), 12 / (2 * z)]],
            [[4 / (2 * zi), 0.0]],
            [[11 / (2 * z), 9 / (2 * z)]],
        ],
    )
    check(result.score, [10 / z, 10 / z, 2 / zi, 10 / z])
    empty = attribute(head, torch.tensor([], dtype=torch.long), torch.zeros(0, 2))
    assert [tuple(getattr(empty, name).shape) for name in ("evidence", "sfam")] == [
        (0, 1, 2)
    ] * 2
    assert (tuple(empty.cis.shape), tuple(empty.score.shape)) == ((0, 2), (0,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_maps_are_float32_whatever_the_network_is(dtype: torch.dtype) -> None:
    # All numbers of the example are exact in half precision.
    head = linearize_head(average, torch.stack([MAP_Q, MAP_G]).to(dtype))
    result = sides(head, "euclidean")
    for name in ("score", "evidence", "sfam", "cis", "remainder"):
        assert getattr(result, name).dtype == torch.float32, name
    torch.testing.assert_close(
        result.evidence,
        torch.tensor([[[11 / 30, 9 / 30]], [[8 / 30, 12 / 30]]]),
        rtol=torch.finfo(dtype).eps + 1e-6,
        atol=0,
    )


def test_half_precision_neither_overflows_nor_vanishes() -> None:
    # 16 channels at 200 everywhere: |e|^2 = 640,000 is beyond half precision, and the
    # derivative after one of 400 positions, 200 / 640,000 / 400, beneath it.
    maps = torch.full((2, 16, 20, 20), 200.0, dtype=torch.float16)
    head = linearize_head(lambda a: a.float().mean((2, 3)).half(), maps)
    for metric in ("cosine", "euclidean"):
        result = sides(head, metric)
        check(result.score, [1.0, 1.0])
        torch.testing.assert_close(
            result.evidence, torch.full((2, 20, 20), 1 / 400), rtol=2e-3, atol=0
        )


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, torch.enable_grad]
)
def test_gradient_mode_of_the_caller_does_not_matter(
    mode: Callable[[], torch.autograd.grad_mode._NoParamDecoratorContextManager],
) -> None:
    with mode():
        # Feature maps of inference mode can ask for no gradient themselves.
        head = linearize_head(average, torch.stack([MAP_Q, MAP_G]) * 1)
        result = sides(head, "euclidean")
        point = attribute_point(head, 0, (0, 0), head, 1, "euclidean")
    check(result.evidence, [[[11 / 30, 9 / 30]], [[8 / 30, 12 / 30]]])
    check(point, [[1 / 15, 4.5 / 15]])
    assert not result.evidence.requires_grad
    assert not point.requires_grad


def test_a_head_that_works_in_place_leaves_the_maps_alone() -> None:
    maps = torch.stack([MAP_Q, MAP_G])
    head = linearize_head(lambda a: a.mul_(2).mean((2, 3)), maps)
    check(head.feature_map, torch.stack([MAP_Q, MAP_G]).tolist())
    check(head.embedding, [[4.0, 2.0], [6.0, 8.0]])
    check(maps, torch.stack([MAP_Q, MAP_G]).tolist())
    assert not maps.requires_grad
    assert len(head) == 2


def test_products_with_the_jacobian() -> None:
    # e = (sum of channel 0 squared, sum of channel 1): at A_q the Jacobian's first row
    # is 2*1 2*3 on channel 0, its second is 1 1 on channel 1.
    head = linearize_head(
        lambda a: torch.stack([a[:, 0].square().sum((1, 2)), a[:, 1].sum((1, 2))], 1),
        MAP_Q[None],
    )
    check(head.vjp(torch.tensor([[1.0, 10.0]])), [[[[2.0, 6.0]], [[10.0, 10.0]]]])
    check(head.jvp(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])), [[14.0, 7.0]])


# --------------------------------------------------------------------------------------
# A patch that two images share
# --------------------------------------------------------------------------------------


SIZE, PATCH, STRIDE = 64, 16, 4


def random_network() -> EmbeddingModel:
    torch.manual_seed(5)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.bias)
    return EmbeddingModel(network, lambda image: image)


def planted(patch: Tensor, top: int, left: int, seed: int) -> Tensor:
    """A dim image of its own, with a patch on it."""
    generator = torch.Generator().manual_seed(seed)
    image = 0.02 * torch.randn(3, SIZE, SIZE, generator=generator)
    image[:, top : top + PATCH, left : left + PATCH] = patch
    return image


def share_inside(heat: Tensor, top: int, left: int) -> float:
    """Share of a map's total inside the patch, with the reach of one position."""
    rows = slice(max(top // STRIDE - 1, 0), (top + PATCH) // STRIDE + 1)
    columns = slice(max(left // STRIDE - 1, 0), (left + PATCH) // STRIDE + 1)
    return float(heat[rows, columns].sum() / heat.sum())


@pytest.mark.parametrize("kind", ["evidence", "sfam"])
def test_a_shared_patch_draws_the_heat_on_both_sides(kind: str) -> None:
    model = random_network()
    patch = 2 * torch.rand(3, PATCH, PATCH, generator=torch.Generator().manual_seed(1))
    query_at, gallery_at = (4, 8), (40, 36)
    head = model.linearize(
        torch.stack([planted(patch, *query_at, 2), planted(patch, *gallery_at, 3)])
    )
    assert tuple(head.feature_map.shape[2:]) == (16, 16)
    query, gallery = getattr(sides(head), kind)
    # The patch and its border are 6 x 6 of 16 x 16 positions: 14 % of the map.
    assert share_inside(query, *query_at) > 0.8
    assert share_inside(gallery, *gallery_at) > 0.8
    # Where the other image has it, there is nothing.
    assert share_inside(query, *gallery_at) < 0.05
    assert share_inside(gallery, *query_at) < 0.05


def test_the_heat_follows_what_the_partner_shows() -> None:
    # One channel for red, one for blue: with a red partner the blue patch of the query
    # says nothing, and the other way round.
    color = nn.Conv2d(3, 2, 1, bias=False)
    with torch.no_grad():
        color.weight.copy_(
            torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])[..., None, None]
        )
    network = nn.Sequential(color, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = EmbeddingModel(network, lambda image: image)
    query, red, blue = torch.zeros(3, 3, 2, 4)
    query[0, :, 0] = red[0, 1, 2] = 1
    query[2, :, 3] = blue[2, 0, 1] = 1
    head = model.linearize(torch.stack([query, red, blue]))
    result = attribute(head, torch.tensor([0, 0]), head.embedding[[1, 2]])
    # Cosines of (1, 1) with (1, 0) and (0, 1), on the two pixels of a patch.
    half = 1 / (2 * sqrt(2))
    check(result.evidence[0], [[half, 0.0, 0.0, 0.0]] * 2)
    check(result.evidence[1], [[0.0, 0.0, 0.0, half]] * 2)
    # Why red and not blue: for one patch, against the other.
    margin = attribute_contrast(
        head, torch.tensor([0]), head.embedding[[1]], head.embedding[[2]]
    )
    check(margin.evidence[0], [[half, 0.0, 0.0, -half]] * 2)
    check(margin.score, [0.0])


# --------------------------------------------------------------------------------------
# Heads that begin by averaging
# --------------------------------------------------------------------------------------

POOL = nn.AdaptiveAvgPool2d(1)
with torch.random.fork_rng():
    # With other weights a rectified embedding may be all zeros, and a score 0 / 0.
    torch.manual_seed(0)
    LINEAR = nn.Linear(4, 3).requires_grad_(False)
    LINEAR.bias.fill_(1)
NORM = nn.BatchNorm1d(3).eval().requires_grad_(False)

AVERAGING = {
    "mean": lambda maps: maps.mean((2, 3)),
    "negative dimensions": lambda maps: maps.mean((-1, -2)),
    "adaptive pooling": lambda maps: LINEAR(POOL(maps).flatten(1)),
    "after a neck": lambda maps: NORM(LINEAR(maps.mean((2, 3)))).relu(),
    "to one length": lambda maps: nn.functional.normalize(POOL(maps).flatten(1)),
}
OTHER = {
    "rectified before": lambda maps: maps.relu().mean((2, 3)),
    "rows only": lambda maps: maps.mean(2).flatten(1),
    "channels too": lambda maps: maps.mean((1, 2, 3))[:, None],
    "weighted": lambda maps: (maps * maps.softmax(3)).mean((2, 3)),
    "mean and largest": lambda maps: maps.mean((2, 3)) + maps.amax((2, 3)),
    "averages twice": lambda maps: torch.cat(
        [maps.mean((2, 3)), maps.square().mean((2, 3))], 1
    ),
    "flat": lambda maps: maps.flatten(1),
}


@pytest.mark.parametrize("name", AVERAGING)
def test_averaging_heads_need_one_number_per_channel(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    head = linearize_head(AVERAGING[name], torch.randn(3, 4, 2, 5, generator=generator))
    cotangents = torch.randn(head.embedding.shape, generator=generator)
    found = head.vjp_per_channel(cotangents)
    assert found is not None
    same = found[..., None, None].expand(-1, -1, 2, 5)
    torch.testing.assert_close(same, head.vjp(cotangents))


@pytest.mark.parametrize("name", OTHER)
def test_heads_that_do_more_have_no_such_number(name: str) -> None:
    head = linearize_head(OTHER[name], torch.randn(3, 4, 2, 5))
    assert head.vjp_per_channel(head.embedding) is None


@pytest.mark.parametrize("weights", ["signed", "minmax"])
@pytest.mark.parametrize("name", AVERAGING)
def test_both_ways_to_the_maps_agree(name: str, weights: str) -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, 4, 2, 5, generator=generator)
    # Adding zero makes it a head that is not known to average.
    short = linearize_head(AVERAGING[name], maps)
    long = linearize_head(lambda maps: AVERAGING[name](maps + 0), maps)
    assert short.vjp_per_channel(short.embedding) is not None
    assert long.vjp_per_channel(long.embedding) is None
    rows = torch.tensor([2, 0, 2, 1, 2])
    partners = torch.randn(5, short.embedding.shape[1], generator=generator)
    one = attribute(short, rows, partners, weights=weights)
    other = attribute(long, rows, partners, weights=weights)
    for part in ("score", "evidence", "sfam", "cis", "remainder"):
        torch.testing.assert_close(
            getattr(one, part), getattr(other, part), rtol=1e-5, atol=1e-5
        )


# --------------------------------------------------------------------------------------
# Heads with one derivative for all images
# --------------------------------------------------------------------------------------


def test_a_linear_head_has_one_derivative_for_all_images() -> None:
    maps = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    dense = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    for head, same in (
        (lambda one: one.flatten(1) @ dense + 1, True),
        (lambda one: POOL(one).flatten(1), True),
        (lambda one: (one.flatten(1) @ dense).relu(), False),
        (lambda one: nn.functional.normalize(one.flatten(1)), False),
        (lambda one: one.square().mean((2, 3)), False),
    ):
        assert linearize_head(head, maps).is_the_same_for_all is same
    # Of one image nothing can be told.
    assert not linearize_head(lambda one: one.flatten(1), maps[:1]).is_the_same_for_all


@pytest.mark.parametrize("rows", [[0] * 7, [2, 2, 2, 0], [1, 0, 2, 1, 1, 1, 1]])
def test_pairs_of_a_linear_head_share_passes(
    rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(2)
    dense = torch.randn(40, 3, generator=generator)
    head = linearize_head(
        lambda one: one.flatten(1) @ dense, torch.randn(3, 4, 2, 5, generator=generator)
    )
    partners = torch.randn(len(rows), 3, generator=generator)
    passes = []
    run = LinearizedHead.vjp
    monkeypatch.setattr(
        LinearizedHead, "vjp", lambda self, c: passes.append(1) or run(self, c)
    )
    found = attribute(head, torch.tensor(rows), partners)
    # One of them tells that the derivative is the same for all images.
    assert len(passes) == 1 + -(-len(rows) // 3)
    for pair, row in enumerate(rows):
        alone = attribute(head, torch.tensor([row]), partners[[pair]])
        for part in ("score", "evidence", "sfam", "cis", "remainder"):
            torch.testing.assert_close(
                getattr(found, part)[[pair]],
                getattr(alone, part),
                rtol=1e-5,
                atol=1e-6,
            )
