"""What holds for every head, on random weights and random images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fiftyone_sfam.attribution.maps import (
    WEIGHTS,
    Attribution,
    Weights,
    attribute,
    attribute_contrast,
    attribute_difference,
    attribute_point,
    channel_weights,
)
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.network.metric import (
    METRICS,
    Metric,
    distance,
    normalizer,
    similarity,
)
from networks import CASES, CHANNELS, HEIGHT, WIDTH, Case, build, images

# Forward-mode differentiation loads torch's own scripted decompositions.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")

SEEDS = st.integers(0, 2**31)
METRIC = st.sampled_from(METRICS)

every_head = pytest.mark.parametrize("name", sorted(CASES))
quickly = settings(max_examples=5, deadline=None, database=None)


def linearized(name: str, seed: int, count: int) -> tuple[Case, LinearizedHead]:
    case = build(name, seed)
    model = EmbeddingModel(
        case.network,
        lambda image: image,
        layer=case.layer,
    )
    return case, model.linearize(images(count, seed))


def carried(case: Case, maps: Tensor) -> Tensor:
    """``J A`` in forward mode, through the head as the test's module writes it."""
    # The clone is for heads that work in place.
    return torch.func.jvp(lambda a: case.head(a.clone()), (maps,), (maps,))[1].detach()


def remainders(
    case: Case, head: LinearizedHead, rows: Tensor, cotangents: Tensor
) -> Tensor:
    """``<e - J A, u>`` of each row."""
    maps = head.feature_map
    embedding = case.head(maps.clone()).detach()
    return ((embedding - carried(case, maps))[rows] * cotangents).sum(1)


def close(actual: Tensor, expected: Tensor, *involved: Tensor) -> None:
    """Compare to 1e-5 of the largest number involved."""
    size = max(float(part.abs().max()) for part in (actual, expected, *involved))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * size)


def total(maps: Tensor) -> Tensor:
    return maps.sum((-2, -1))


def pair_of(head: LinearizedHead, metric: Metric, weights: Weights) -> Attribution:
    rows = torch.tensor([0, 1])
    return attribute(head, rows, head.embedding[[1, 0]], metric, weights)


# --------------------------------------------------------------------------------------
# Sums
# --------------------------------------------------------------------------------------


@every_head
@quickly
@given(seed=SEEDS, metric=METRIC)
def test_evidence_and_remainder_add_up_to_the_score(
    name: str, seed: int, metric: Metric
) -> None:
    case, head = linearized(name, seed, 2)
    result = pair_of(head, metric, "signed")
    partners = head.embedding[[1, 0]]
    cotangents = partners / normalizer(head.embedding, partners, metric)[:, None]
    apart = remainders(case, head, torch.tensor([0, 1]), cotangents)
    score = similarity(*head.embedding, metric).expand(2)
    scale = result.evidence.abs().sum((1, 2)) + 1
    assert ((total(result.evidence) + apart - score).abs() <= 1e-5 * scale).all()
    assert ((result.cis.sum(1) + apart - score).abs() <= 1e-5 * scale).all()
    assert ((result.remainder - apart).abs() <= 1e-5 * scale).all()
    close(result.score, score)
    if case.remainder == "none":
        assert (apart.abs() <= 1e-5 * scale).all()
    if case.remainder == "affine":
        bias = case.head(torch.zeros_like(head.feature_map)).detach()
        close(apart, (bias * cotangents).sum(1), scale)
    if case.remainder != "none":
        assert (apart.abs() > 1e-4).any()


@every_head
@quickly
@given(seed=SEEDS, metric=METRIC)
def test_contrast_is_the_difference_of_two_explanations(
    name: str, seed: int, metric: Metric
) -> None:
    case, head = linearized(name, seed, 3)
    row = torch.tensor([0])
    query, match, impostor = head.embedding[:, None]
    result = attribute_contrast(head, row, match, impostor, metric)
    for_match = attribute(head, row, match, metric)
    for_impostor = attribute(head, row, impostor, metric)
    close(
        result.evidence, for_match.evidence - for_impostor.evidence, for_match.evidence
    )
    close(result.cis, for_match.cis - for_impostor.cis, for_match.cis)
    margin = similarity(query, match, metric) - similarity(query, impostor, metric)
    close(result.score, margin, for_match.score)
    cotangents = (
        match / normalizer(query, match, metric)[:, None]
        - impostor / normalizer(query, impostor, metric)[:, None]
    )
    apart = remainders(case, head, row, cotangents)
    scale = for_match.evidence.abs().sum() + for_impostor.evidence.abs().sum() + 1
    assert (total(result.evidence) + apart - margin).abs() <= 1e-5 * scale


@every_head
@quickly
@given(seed=SEEDS, metric=METRIC)
def test_both_sides_of_a_difference_add_up_to_the_squared_distance(
    name: str, seed: int, metric: Metric
) -> None:
    case, head = linearized(name, seed, 2)
    one, other = (
        attribute_difference(
            head,
            torch.tensor([row]),
            head.embedding[[1 - row]],
            metric,
            "query" if row == 0 else "gallery",
        )
        for row in (0, 1)
    )
    query, gallery = head.embedding[:, None]
    if metric == "cosine":
        lengths = query.norm(), gallery.norm()
        apart = query / lengths[0] - gallery / lengths[1]
        cotangents = apart / lengths[0], apart / lengths[1]
        squared = apart.square().sum(1)
    else:
        scale = normalizer(query, gallery, metric)
        cotangents = ((query - gallery) / scale[:, None],) * 2
        squared = distance(query, gallery, "euclidean").square() / scale
    sums = [
        total(side.evidence)
        + remainders(case, head, torch.tensor([row]), cotangents[row])
        for row, side in enumerate((one, other))
    ]
    bound = 1e-5 * (one.evidence.abs().sum() + other.evidence.abs().sum() + 1)
    assert (sums[0] - sums[1] - squared).abs() <= bound
    assert (one.score - other.score - squared).abs() <= bound
    assert (sums[0] - one.score).abs() <= bound
    assert (sums[1] - other.score).abs() <= bound


@every_head
@quickly
@given(
    seed=SEEDS,
    metric=METRIC,
    row=st.integers(0, HEIGHT - 1),
    column=st.integers(0, WIDTH - 1),
)
def test_a_point_adds_up_to_the_evidence_there(
    name: str, seed: int, metric: Metric, row: int, column: int
) -> None:
    # D(p) = <J_q A_q(p), e_g> / Z, and the sum over p' is <J_q A_q(p), J_g A_g> / Z.
    case, head = linearized(name, seed, 2)
    found = attribute_point(head, 0, (row, column), head, 1, metric)
    maps = head.feature_map
    here = torch.zeros_like(maps)
    here[:, :, row, column] = maps[:, :, row, column]
    contribution = torch.func.jvp(lambda a: case.head(a.clone()), (maps,), (here,))[
        1
    ].detach()[0]
    scale = normalizer(*head.embedding, metric)
    gallery_remainder = head.embedding[1] - carried(case, maps)[1]
    evidence = pair_of(head, metric, "signed").evidence
    missing = (contribution * gallery_remainder).sum() / scale
    bound = 1e-5 * (found.abs().sum() + evidence.abs().sum() + missing.abs() + 1)
    assert (found.sum() + missing - evidence[0, row, column]).abs() <= bound
    if case.remainder == "none":
        assert (found.sum() - evidence[0, row, column]).abs() <= bound


@every_head
@quickly
@given(seed=SEEDS, metric=METRIC)
def test_points_are_mutual(name: str, seed: int, metric: Metric) -> None:
    _, head = linearized(name, seed, 2)
    forth = attribute_point(head, 0, (1, 2), head, 1, metric)
    back = attribute_point(head, 1, (3, 0), head, 0, metric)
    assert abs(forth[3, 0] - back[1, 2]) <= 1e-5 * (forth.abs().max() + 1e-3)


# --------------------------------------------------------------------------------------
# Importance and sfam
# --------------------------------------------------------------------------------------


@every_head
@quickly
@given(seed=SEEDS, metric=METRIC, weights=st.sampled_from(WEIGHTS))
def test_sfam_is_the_weighted_sum_of_the_channels(
    name: str, seed: int, metric: Metric, weights: Weights
) -> None:
    _, head = linearized(name, seed, 2)
    result = pair_of(head, metric, weights)
    by_hand = channel_weights(result.cis, weights)[..., None, None] * head.feature_map
    close(result.sfam, by_hand.sum(1))


@pytest.mark.parametrize("name", ["average", "signed average", "in place"])
@quickly
@given(seed=SEEDS)
def test_importance_is_the_product_of_the_normalized_embeddings(
    name: str, seed: int
) -> None:
    _, head = linearized(name, seed, 2)
    one, other = torch.nn.functional.normalize(head.embedding)
    close(pair_of(head, "cosine", "signed").cis, (one * other).expand(2, -1))


@quickly
@given(seed=SEEDS)
def test_importance_is_not_that_product_for_another_head(seed: int) -> None:
    _, head = linearized("flatten and linear, C = D", seed, 2)
    assert head.embedding.shape[1] == CHANNELS
    one, other = torch.nn.functional.normalize(head.embedding)
    cis = pair_of(head, "cosine", "signed").cis[0]
    assert (cis - one * other).abs().max() > 0.01
    assert abs(cis.sum() - (one * other).sum()) < 1e-5 * (1 + cis.abs().sum())


# --------------------------------------------------------------------------------------
# Pairs
# --------------------------------------------------------------------------------------


@every_head
@quickly
@given(seed=SEEDS, metric=METRIC, weights=st.sampled_from(WEIGHTS))
def test_swapping_a_pair_swaps_its_sides(
    name: str, seed: int, metric: Metric, weights: Weights
) -> None:
    case, head = linearized(name, seed, 2)
    model = EmbeddingModel(
        case.network,
        lambda image: image,
        layer=case.layer,
    )
    result = pair_of(head, metric, weights)
    swapped = pair_of(model.linearize(images(2, seed).flip(0)), metric, weights)
    for part in ("evidence", "sfam", "cis", "score"):
        close(getattr(swapped, part).flip(0), getattr(result, part))


@every_head
@quickly
@given(seed=SEEDS, factor=st.floats(1e-3, 1e3), weights=st.sampled_from(WEIGHTS))
def test_the_partners_length_is_nothing_to_the_cosine(
    name: str, seed: int, factor: float, weights: Weights
) -> None:
    _, head = linearized(name, seed, 3)
    row = torch.tensor([0])
    match, impostor = head.embedding[[1]], head.embedding[[2]]
    plain = attribute(head, row, match, "cosine", weights)
    scaled = attribute(head, row, factor * match, "cosine", weights)
    contrast = attribute_contrast(head, row, match, impostor, "cosine", weights)
    contrasted = attribute_contrast(
        head, row, factor * match, impostor / factor, "cosine", weights
    )
    close(scaled.score, plain.score)
    for part in ("evidence", "cis"):
        close(getattr(scaled, part), getattr(plain, part))
        close(getattr(contrasted, part), getattr(contrast, part), getattr(plain, part))
    if weights == "signed":
        close(scaled.sfam, plain.sfam)
        close(contrasted.sfam, contrast.sfam, plain.sfam)


@every_head
@quickly
@given(seed=SEEDS, metric=METRIC)
def test_an_image_with_itself_does_not_vanish(
    name: str, seed: int, metric: Metric
) -> None:
    case, head = linearized(name, seed, 1)
    result = attribute(head, torch.tensor([0]), head.embedding, metric)
    close(result.score, torch.ones(1))
    # The gradient of the similarity itself, Z included, is zero here.
    maps = head.feature_map.requires_grad_()
    whole = similarity(case.head(maps.clone()), head.embedding, metric)
    (vanishing,) = torch.autograd.grad(whole.sum(), maps)
    largest = result.evidence.abs().max()
    assert largest > 1e-4
    assert (vanishing * maps).sum(1).abs().max() < 1e-2 * largest
    if case.remainder == "none":
        close(total(result.evidence), torch.ones(1), result.evidence.abs().sum())


@every_head
@quickly
@given(seed=SEEDS, metric=METRIC)
def test_another_partner_gives_another_map(
    name: str, seed: int, metric: Metric
) -> None:
    _, head = linearized(name, seed, 3)
    one, other = attribute(
        head, torch.tensor([0, 0]), head.embedding[[1, 2]], metric
    ).evidence
    assert (one - other).abs().max() > 1e-4 * one.abs().max()


# --------------------------------------------------------------------------------------
# Batches
# --------------------------------------------------------------------------------------


@every_head
@quickly
@given(
    seed=SEEDS,
    metric=METRIC,
    weights=st.sampled_from(WEIGHTS),
    rows=st.lists(st.integers(0, 3), min_size=1, max_size=9),
)
def test_a_batch_of_pairs_is_as_one_pair_at_a_time(
    name: str, seed: int, metric: Metric, weights: Weights, rows: list[int]
) -> None:
    _, head = linearized(name, seed, 4)
    generator = torch.Generator().manual_seed(seed)
    partners = torch.randn(len(rows), head.embedding.shape[1], generator=generator)
    batch = attribute(head, torch.tensor(rows), partners, metric, weights)
    for place, row in enumerate(rows):
        single = attribute(
            head, torch.tensor([row]), partners[[place]], metric, weights
        )
        for part in ("score", "evidence", "sfam", "cis"):
            one, many = getattr(single, part)[0], getattr(batch, part)[place]
            assert (one - many).abs().max() <= 1e-6 * one.abs().max(), part


@every_head
@quickly
@given(seed=SEEDS, metric=METRIC)
def test_a_batch_of_images_is_as_one_image_at_a_time(
    name: str, seed: int, metric: Metric
) -> None:
    case, head = linearized(name, seed, 4)
    model = EmbeddingModel(
        case.network,
        lambda image: image,
        layer=case.layer,
    )
    partners = head.embedding.flip(0)
    batch = attribute(head, torch.arange(4), partners, metric)
    for row in range(4):
        alone = model.linearize(images(4, seed)[[row]])
        single = attribute(alone, torch.tensor([0]), partners[[row]], metric)
        for part in ("evidence", "sfam", "cis"):
            close(getattr(single, part)[0], getattr(batch, part)[row])
