"""Masks, curves and baselines on networks whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fiftyone_sfam.attribution.path import blur
from fiftyone_sfam.audit.faithfulness.curves import (
    Curves,
    area,
    decision_estimate,
    verification_accuracy,
)
from fiftyone_sfam.audit.faithfulness.maps import (
    center_prior,
    plain_activation,
    random_maps,
)
from fiftyone_sfam.audit.faithfulness.masks import (
    FILLS,
    equal_error_threshold,
    first_pixels,
    hide,
    inpaint,
    map_correlations,
    masked_embeddings,
    partner_ranks,
    pixel_ranks,
    similarity_curves,
)
from fiftyone_sfam.errors import DataError


def pixels_of(images: Tensor) -> Tensor:
    """A network whose embedding is the image: one number per pixel."""
    return images.mean(1).flatten(1)


def corner_of(images: Tensor) -> Tensor:
    """A network that looks only at the upper left quarter."""
    height, width = images.shape[-2:]
    return images[:, :, : height // 2, : width // 2].flatten(1)


def gray(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows).expand(3, -1, -1).clone()


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------
# Curves worked out by hand
# --------------------------------------------------------------------------------------


def test_the_curves_of_a_linear_network() -> None:
    # The mean is 4. Hidden one after the other: 8, 4, 2, 2.
    image = gray([[8.0, 4.0], [2.0, 2.0]])
    order = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    masked = masked_embeddings(pixels_of, image, order, steps=4, fill="mean")
    hidden = [[8, 4, 2, 2], [4, 4, 2, 2], [4, 4, 2, 2], [4, 4, 4, 2], [4, 4, 4, 4]]
    shown = [[4, 4, 4, 4], [8, 4, 4, 4], [8, 4, 4, 4], [8, 4, 2, 4], [8, 4, 2, 2]]
    np.testing.assert_allclose(masked.deletion[0], hidden)
    np.testing.assert_allclose(masked.insertion[0], shown)
    curves = similarity_curves(masked, torch.ones(1, 4))
    # Sum over twice the length.
    deletion = [16 / 88**0.5, 12 / 40**0.5, 12 / 40**0.5, 14 / 52**0.5, 16 / 8]
    deletion = [value / 2 for value in deletion]
    insertion = [1.0, 10 / 112**0.5, 10 / 112**0.5, 9 / 100**0.5, 8 / 88**0.5]
    np.testing.assert_allclose(curves.deletion[0], [*deletion[:4], 1.0])
    np.testing.assert_allclose(curves.insertion[0], insertion)
    # Trapezoids: the ends count half.
    expected = (insertion[0] / 2 + sum(insertion[1:4]) + insertion[4] / 2) / 4 - (
        deletion[0] / 2 + sum(deletion[1:4]) + 1 / 2
    ) / 4
    assert curves.margin[0] == pytest.approx(expected)


def test_maps_that_agree_on_pixels_share_images() -> None:
    image = gray([[8.0, 4.0], [2.0, 2.0]])
    order = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    seen: list[Tensor] = []

    def embed(images: Tensor) -> Tensor:
        seen.extend(images)
        return pixels_of(images)

    maps = torch.cat([order, -order, order])
    masked = masked_embeddings(embed, image, maps, steps=4, fill="mean", batch_size=3)
    # What one order hides first, the opposite one shows first: six masks and the ends.
    assert len(seen) == 8
    for number, one in enumerate(maps):
        alone = masked_embeddings(pixels_of, image, one[None], steps=4, fill="mean")
        torch.testing.assert_close(masked.deletion[number], alone.deletion[0])
        torch.testing.assert_close(masked.insertion[number], alone.insertion[0])


def test_both_sides_masked_at_once() -> None:
    image = gray([[8.0, 4.0], [2.0, 2.0]])
    order = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    masked = masked_embeddings(pixels_of, image, order, steps=4, fill="mean")
    # An image beside itself, both masked alike, never differs.
    both = similarity_curves(masked, masked)
    np.testing.assert_allclose(both.deletion, 1)
    np.testing.assert_allclose(both.insertion, 1)


def test_a_network_that_looks_at_a_corner() -> None:
    image = noise(0, 3, 16, 12)
    corner, elsewhere = torch.zeros(2, 16, 12)
    corner[:8, :6] = 1
    elsewhere[:8, :6] = -1
    maps = torch.stack([corner, elsewhere])
    masked = masked_embeddings(corner_of, image, maps, steps=4, fill="blur")
    whole, nothing = corner_of(image[None])[0], corner_of(blur(image[None]))[0]
    # The corner is a quarter: hidden first it is gone at once, hidden last it stays.
    for step in range(1, 5):
        torch.testing.assert_close(masked.deletion[0, step], nothing)
        torch.testing.assert_close(masked.insertion[0, step], whole)
    for step in range(4):
        torch.testing.assert_close(masked.deletion[1, step], whole)
        torch.testing.assert_close(masked.insertion[1, step], nothing)
    curves = similarity_curves(masked, whole.expand(2, -1))
    fall = 1 - float(torch.cosine_similarity(whole, nothing, dim=0))
    # All but half a step of the largest area there is, and its opposite.
    np.testing.assert_allclose(curves.margin, [0.75 * fall, -0.75 * fall], atol=1e-6)


def test_patches_of_another_image() -> None:
    # Hidden by another image: its pixels at the same places.
    image, other = gray([[8.0, 4.0], [2.0, 2.0]]), gray([[1.0, 3.0], [5.0, 7.0]])
    order = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    masked = masked_embeddings(
        pixels_of, image, order, steps=2, fill="patches", other=other
    )
    np.testing.assert_allclose(
        masked.deletion[0], [[8, 4, 2, 2], [1, 3, 2, 2], [1, 3, 5, 7]]
    )
    np.testing.assert_allclose(
        masked.insertion[0], [[1, 3, 5, 7], [8, 4, 5, 7], [8, 4, 2, 2]]
    )
    with pytest.raises(DataError, match="'patches' needs another image"):
        masked_embeddings(pixels_of, image, order, fill="patches")


def test_the_area_of_decisions_by_hand() -> None:
    # Accepted at none, half and all of the pixels filled.
    accepted = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=float)
    genuine = np.array([True, True, False, False])
    queries = np.array([3, 8, 3, 8])
    found = decision_estimate(accepted, genuine, queries)
    # Right: genuine 1, 1/2, 0 over all; impostors 1/2, 1, 1. Balanced 3/4, 3/4, 1/2,
    # whose trapezoids are 3/4 and 5/8.
    assert found.value == pytest.approx((3 / 4 + 5 / 8) / 2)
    assert np.isnan(found.low)
    # Under a second fill all are refused at once: right are genuine 1/2, 1/4, 0, and
    # impostors 3/4, 1, 1. Balanced 5/8, 5/8, 1/2.
    halved = decision_estimate(accepted / 2, genuine, queries)
    assert halved.value == pytest.approx((5 / 8 + 9 / 16) / 2)
    assert np.isnan(decision_estimate(accepted[:2], genuine[:2], queries[:2]).value)


@given(st.integers(0, 10**6), st.integers(5, 30))
@settings(max_examples=20, deadline=None)
def test_areas_of_decisions_are_shares(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    genuine = np.arange(2 * count) % 2 == 0
    queries = np.repeat(np.arange(count), 2)
    accepted = generator.integers(0, 2, (2 * count, 11)).astype(float)
    found = decision_estimate(accepted, genuine, queries, resamples=200)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    # What is refused instead of accepted is wrong instead of right.
    turned = decision_estimate(1 - accepted, genuine, queries, resamples=200)
    assert turned.value == pytest.approx(1 - found.value)


def test_the_rank_of_a_partner() -> None:
    gallery = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.9, 0.1]])
    masked = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    candidates = np.array([True, True, True, False])
    assert partner_ranks(masked, gallery, 0, candidates).tolist() == [1, 2, 3]
    only = np.array([False, False, True, False])
    assert partner_ranks(masked, gallery, 0, only).tolist() == [1, 1, 2]


def test_the_threshold_and_the_accuracy_that_it_keeps() -> None:
    genuine, impostor = np.array([0.9, 0.8, 0.3]), np.array([0.5, 0.1, 0.2])
    threshold = equal_error_threshold(genuine, impostor)
    # From 0.5 on, one of three of either kind is wrong.
    assert threshold == pytest.approx(0.4)
    scores = np.array([[0.9, 0.3], [0.8, 0.8], [0.5, 0.1], [0.1, 0.7]])
    kinds = np.array([True, True, False, False])
    found = verification_accuracy(scores, kinds, threshold)
    np.testing.assert_allclose(found, [0.75, 0.5])
    with pytest.raises(DataError, match="there are 0 and 3"):
        equal_error_threshold(np.empty(0), impostor)


def test_correlations_of_maps() -> None:
    one = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]).expand(3, -1, -1)
    other = torch.stack([2 * one[0] + 7, -one[0], torch.ones(2, 2)])
    np.testing.assert_allclose(map_correlations(one, other), [1, -1, np.nan])


# --------------------------------------------------------------------------------------
# Ranking
# --------------------------------------------------------------------------------------


def test_ranking_is_by_the_signed_value() -> None:
    # In 8 bits, or by absolute values, these would rank otherwise.
    maps = torch.tensor([[[1e-9, -5.0], [2e-9, 0.0]]])
    assert pixel_ranks(maps, (2, 2)).tolist() == [[[1, 3], [0, 2]]]


def test_equal_pixels_are_in_no_order() -> None:
    ranks = pixel_ranks(torch.zeros(1, 4, 4), (32, 32))[0]
    half = ranks < 512
    # A quarter of them in each quarter, not the upper half of the image.
    assert 190 < int(half[:16].sum()) < 322
    assert torch.equal(ranks, pixel_ranks(torch.ones(1, 2, 2), (32, 32))[0])
    assert not torch.equal(ranks, pixel_ranks(torch.zeros(1, 2, 2), (32, 32), 1)[0])


def test_unusable_maps_and_options() -> None:
    with pytest.raises(DataError, match="not finite"):
        pixel_ranks(torch.tensor([[[float("nan"), 1.0]]]), (2, 2))
    with pytest.raises(DataError, match="steps is 1"):
        first_pixels(torch.zeros(1, 2, 2), 1)
    with pytest.raises(DataError, match="unknown fill 'black'"):
        hide(noise(0, 3, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool), "black")


@given(st.integers(0, 10**6), st.integers(2, 9), st.sampled_from(FILLS))
@settings(max_examples=25, deadline=None)
def test_inserting_is_deleting_the_other_way_round(
    seed: int, steps: int, fill: str
) -> None:
    image, maps = noise(seed, 3, 8, 6), noise(seed + 1, 1, 8, 6)
    kwargs = {"steps": steps, "fill": fill, "batch_size": 3}
    kwargs["other"] = noise(seed + 2, 3, 8, 6)
    forth = masked_embeddings(pixels_of, image, maps, **kwargs)
    back = masked_embeddings(pixels_of, image, -maps, **kwargs)
    # 48 pixels may not divide into equal steps; rounding half to even is symmetric.
    torch.testing.assert_close(forth.insertion, back.deletion.flip(1))
    torch.testing.assert_close(forth.deletion[:, 0], pixels_of(image[None]))


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_first_pixels_are_nested_and_counted(seed: int) -> None:
    marked = first_pixels(pixel_ranks(noise(seed, 2, 4, 3), (9, 7), seed), 5)
    assert marked.sum((2, 3)).tolist() == [[0, 13, 25, 38, 50, 63]] * 2
    assert bool((marked[:, 1:] >= marked[:, :-1]).all())


# --------------------------------------------------------------------------------------
# Fills and baselines
# --------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.floats(0.05, 1))
@settings(max_examples=25, deadline=None)
def test_fills_leave_what_is_shown(seed: int, share: float) -> None:
    image = noise(seed, 3, 11, 7)
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.rand(2, 11, 7, generator=generator) < share
    for fill in FILLS:
        other = image.flip(1)  # no other colors than its own
        found = hide(image, hidden, fill, other)
        for one, gone in zip(found, hidden, strict=True):
            assert torch.equal(one[:, ~gone], image[:, ~gone])
            # No fill makes up a color that is brighter or darker than any known one.
            assert float(one.max()) <= float(image.max()) + 1e-5
            assert float(one.min()) >= float(image.min()) - 1e-5


def test_blurring_keeps_a_flat_image_and_spreads_a_point() -> None:
    flat = torch.full((1, 3, 9, 5), 2.0)
    torch.testing.assert_close(blur(flat), flat)
    point = torch.zeros(1, 3, 81, 81)
    point[:, :, 40, 40] = 1
    found = blur(point, share=0.05)[0, 0]
    assert float(found.sum()) == pytest.approx(1, rel=1e-5)
    # A Gaussian of 4.05 pixels: ratio of the values at distances 5 and 0.
    ratio = float(found[40, 45] / found[40, 40])
    assert ratio == pytest.approx(np.exp(-0.5 * (5 / 4.05) ** 2), rel=1e-4)


def test_holes_are_filled_from_around_them() -> None:
    image = gray([[1.0] * 8] * 4 + [[5.0] * 8] * 4)
    hidden = torch.zeros(1, 8, 8, dtype=torch.bool)
    hidden[0, :2, :2] = True
    found = inpaint(image[None], hidden)[0]
    torch.testing.assert_close(found, image)
    everything = torch.ones(1, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(
        inpaint(image[None], everything)[0], gray([[3.0] * 8] * 8)
    )


def test_baselines() -> None:
    prior = center_prior((4, 2))
    assert torch.equal(prior, prior.flip(0))
    assert torch.equal(prior, prior.flip(1))
    # (1.5 / 4 - 0.5) / 0.25 = -0.5 down and (0.5 / 2 - 0.5) / 0.25 = -1 across.
    assert float(prior[1, 0]) == pytest.approx(np.exp(-0.125 - 0.5))
    maps = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.5]]]])
    assert plain_activation(maps).tolist() == [[[4.0, 2.5]]]
    assert torch.equal(random_maps(2, (3, 4), 5), random_maps(2, (3, 4), 5))


def test_the_area_of_a_line() -> None:
    assert area(np.linspace(1, 0, 7)) == pytest.approx(0.5)
    flat = Curves(np.full((1, 5), 0.25), np.full((1, 5), 0.75))
    assert flat.margin.tolist() == [0.5]
