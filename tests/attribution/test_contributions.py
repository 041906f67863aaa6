"""Position contributions: what they are, and that all maps follow from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fiftyone_sfam.attribution import contributions as kept
from fiftyone_sfam.attribution.contributions import Contributions
from fiftyone_sfam.attribution.maps import (
    attribute,
    attribute_contrast,
    attribute_difference,
    attribute_point,
)
from fiftyone_sfam.network import heads
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead, as_leaf
from fiftyone_sfam.network.held import HeldHead
from networks import CASES, build, images, linearize_head

METRICS = pytest.mark.parametrize("metric", ["cosine", "euclidean"])


def contributions_of(head: LinearizedHead) -> list[Contributions]:
    height, width = head.leaf.shape[2:]
    values = head.position_contributions().unflatten(1, (height, width))
    remainders = head.embedding - values.sum((1, 2))
    return [
        Contributions(*(part.numpy() for part in parts))
        for parts in zip(values, remainders, head.embedding, strict=True)
    ]


def two_images() -> list[Contributions]:
    """Two positions of two numbers each; the second image has a remainder."""
    return [
        Contributions(np.array([[first, second]], np.float32), rest, total)
        for first, second, rest, total in (
            ([3, 0], [0, 4], np.float32([0, 0]), np.float32([3, 4])),
            ([0, 6], [7, 2], np.float32([1, -2]), np.float32([8, 6])),
        )
    ]


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------------------
# What they are
# --------------------------------------------------------------------------------------


def test_an_average_and_a_linear_layer() -> None:
    weight = torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 1.0]])
    layer = nn.Linear(2, 3)
    layer.weight.data, layer.bias.data = weight, torch.tensor([5.0, 6.0, 7.0])
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), layer)
    maps = torch.tensor([[[[4.0, 0.0]], [[2.0, 8.0]]]])
    head = linearize_head(network.requires_grad_(False), maps)
    # W (4, 2) / 2 and W (0, 8) / 2.
    close(head.position_contributions()[0], [[4, -1, 7], [8, -4, 4]])
    close(contributions_of(head)[0].remainder, [5, 6, 7])


def test_a_held_layer_norm_after_the_average() -> None:
    norm = nn.LayerNorm(2, eps=0.0)
    norm.weight.data, norm.bias.data = torch.tensor([2.0, 3.0]), torch.tensor([0.5, 1])
    leaf = as_leaf(torch.tensor([[[[4.0, 2.0]], [[9.0, 5.0]]]]))
    with HeldHead():
        output = norm(leaf.clone().mean((2, 3)))
    head = LinearizedHead(leaf, output)
    # The average is (3, 7), its deviation 2. Position 0 is (4, 9), centered -2.5 and
    # 2.5; position 1 is (2, 5), centered -1.5 and 1.5. Both times gamma / 2 / 2.
    close(
        head.position_contributions()[0],
        [[-2.5 * 2 / 4, 2.5 * 3 / 4], [-1.5 * 2 / 4, 1.5 * 3 / 4]],
    )
    close(head.embedding[0], [-2 + 0.5, 3 + 1])
    close(contributions_of(head)[0].remainder, [0.5, 1])


def test_a_linear_layer_for_all_positions() -> None:
    weight = torch.arange(12.0).reshape(2, 6)
    head = linearize_head(
        lambda maps: maps.flatten(1) @ weight.T, torch.ones(3, 2, 1, 3)
    )
    # Position 1 has the numbers 1 and 4 of each row.
    expected = [[3, 15], [5, 17], [7, 19]]
    close(head.position_contributions(), [expected] * 3)


@pytest.mark.parametrize("name", ["flatten and linear", "gated", "bn neck"])
def test_the_ways_to_compute_them_agree(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = build(name, 8)
    model = EmbeddingModel(case.network, lambda image: image, layer=case.layer)
    head = model.linearize(images(3, 9))
    closed = head.position_contributions()
    # No Jacobian, then one unit vector at a time.
    monkeypatch.setattr(heads, "_LARGEST_JACOBIAN", 0)
    monkeypatch.setattr(heads, "_TANGENT_COST", 0)
    close(head.position_contributions(), closed)
    monkeypatch.setitem(vars(head), "_has_tangents", False)
    monkeypatch.setattr(heads, "_AT_ONCE", 1)
    close(head.position_contributions(), closed)
    alone = model.linearize(images(3, 9)[1:2])
    close(alone.position_contributions(), closed[1:2])
    # More directions than positions, so that both ways are taken.
    directions = torch.randn(15, closed.shape[2])
    projected = closed @ directions.T
    close(head.position_contributions(directions), projected)
    monkeypatch.undo()
    close(head.position_contributions(directions), projected)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", sorted(CASES))
def test_every_head_gives_the_maps_of_the_live_network(name: str, count: int) -> None:
    case = build(name, 3)
    model = EmbeddingModel(case.network, lambda image: image, layer=case.layer)
    head = model.linearize(images(count, 4))
    rows = torch.arange(count)
    partners = head.embedding.flip(0) + 0.5 * head.embedding
    live = attribute(head, rows, partners)
    for row, image in enumerate(contributions_of(head)):
        result = kept.evidence(image, partners[row].numpy())
        bound = 1e-5 * float(live.evidence[row].abs().sum() + 1)
        assert np.abs(result.evidence - live.evidence[row].numpy()).max() <= bound
        assert abs(result.score - float(live.score[row])) <= bound
        assert abs(result.remainder - float(live.remainder[row])) <= bound
        assert abs(result.error) <= bound


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
@METRICS
@pytest.mark.parametrize("name", ["bn neck", "gated", "depthwise"])
def test_all_maps_of_a_pair(name: str, metric: Any) -> None:
    case = build(name, 5)
    model = EmbeddingModel(case.network, lambda image: image, layer=case.layer)
    head = model.linearize(images(3, 6))
    ends = head.embedding
    query, gallery, impostor = contributions_of(head)
    first = torch.tensor([0])
    margin = attribute_contrast(head, first, ends[[1]], ends[[2]], metric)
    close(kept.contrast(query, gallery, impostor, metric).evidence, margin.evidence[0])
    close(kept.contrast(query, gallery, impostor, metric).score, margin.score[0])
    sides = kept.difference(query, gallery, metric)
    for row, side in enumerate(("query", "gallery")):
        live: Any = attribute_difference(
            head, torch.tensor([row]), ends[[1 - row]], metric, side
        )
        close(sides[row].evidence, live.evidence[0])
        close(sides[row].score, live.score[0])
        close(sides[row].remainder, live.remainder[0])
    every = kept.points(query, gallery, metric)
    for place in ((0, 0), (2, 1)):
        expected: Tensor = attribute_point(head, 0, place, head, 1, metric)
        close(every[place], expected)
        close(kept.point(query, place, gallery, metric), expected)


# --------------------------------------------------------------------------------------
# Maps by hand
# --------------------------------------------------------------------------------------


def test_evidence_and_its_remainder() -> None:
    query, gallery = two_images()
    # Z = 5 * 10.
    close(kept.evidence(query, gallery).evidence, [[24 / 50, 24 / 50]])
    close(kept.evidence(query, gallery).score, 48 / 50)
    other = kept.evidence(gallery, query)
    close(other.evidence, [[24 / 50, 29 / 50]])
    close([other.score, other.remainder], [48 / 50, -5 / 50])
    euclidean = kept.evidence(query, gallery, "euclidean")
    close(euclidean.evidence, [[24 / 62.5, 24 / 62.5]])


def test_a_template_takes_the_place_of_an_image() -> None:
    query, _ = two_images()
    result = kept.evidence(query, np.array([1.0, 0.0]))
    close(result.evidence, [[3 / 5, 0]])
    close(result.score, 3 / 5)


def test_a_decision_adds_up_to_the_distance_from_the_threshold() -> None:
    query, gallery = two_images()
    result = kept.decision(query, gallery, 0.5)
    # Minus half of (9, 16) / 25.
    close(result.evidence, [[24 / 50 - 9 / 50, 24 / 50 - 16 / 50]])
    close(result.score, 48 / 50 - 0.5)
    euclidean = kept.decision(query, gallery, 0.25, "euclidean")
    close(euclidean.score, 48 / 62.5 - 0.25)
    close(euclidean.evidence.sum(), euclidean.score)


def test_correspondences() -> None:
    query, gallery = two_images()
    expected = np.array([[0, 21], [24, 8]]) / 50
    close(kept.points(query, gallery).reshape(2, 2), expected)
    close(kept.point(query, (0, 1), gallery), expected[1][None])
    close(kept.point(gallery, (0, 1), query), expected[:, 1][None])


def test_a_place_outside_the_map() -> None:
    query, gallery = two_images()
    with pytest.raises(ValueError, match=r"\(1, 0\) lies outside .* 1 x 2"):
        kept.point(query, (1, 0), gallery)


def test_a_vector_of_another_model() -> None:
    query, _ = two_images()
    with pytest.raises(ValueError, match=r"shape \(3,\), but .* has \(2,\)"):
        query.project(np.ones(3))


# --------------------------------------------------------------------------------------
# Fewer bytes
# --------------------------------------------------------------------------------------


def test_eight_bits_have_one_scale_per_position() -> None:
    values = np.array([[[127.0, -63.4], [0.0, 0.5]], [[0, 0], [254, 3]]], np.float32)
    packed, scale = kept.pack_contributions(values, "int8")
    assert packed.dtype == np.int8
    assert packed.tolist() == [[[127, -63], [0, 127]], [[0, 0], [127, 2]]]
    close(scale[:, 0], [1, 0])
    close(scale[:, 1], [0.5 / 127, 2])
    restored = kept.unpack_contributions(packed, scale)
    close(restored[1], [[0, 0], [254, 4]])


def test_sixteen_bits_keep_small_and_large_positions() -> None:
    values = np.array([[1e6, 1e4], [1e-12, 3e-12]], np.float32)
    restored = kept.unpack_contributions(*kept.pack_contributions(values, "float16"))
    np.testing.assert_allclose(restored, values, rtol=1e-3)


def test_leading_directions() -> None:
    # Lengths do not matter: of three embeddings, two point along the second axis.
    embeddings = np.array([[9, 0, 0], [0, 1, 0], [0, -2, 0], [0, 0, 0]], np.float32)
    close(kept.leading_directions(embeddings, 2), [[0, 1, 0], [1, 0, 0]])
    assert kept.leading_directions(embeddings, 7).shape == (3, 3)


def test_a_projection_keeps_products_within_its_directions() -> None:
    query, gallery = two_images()
    basis = np.array([[0, 1]], np.float32)
    small = [
        Contributions(
            side.values @ basis.T, basis @ side.remainder, side.embedding, basis
        )
        for side in (query, gallery)
    ]
    result = kept.evidence(small[0], small[1])
    # Only the second of the two numbers is kept: 0 * 6 and 4 * 6.
    close(result.evidence, [[0, 24 / 50]])
    close([result.score, result.remainder, result.error], [48 / 50, 0, 24 / 50])
    close(kept.points(*small).reshape(2, 2), np.array([[0, 0], [24, 8]]) / 50)
