"""The closed forms of heads, against the general way through their derivative."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.network.heads import LinearizedHead
from networks import linearize_head

PARTS = ("score", "evidence", "sfam", "cis", "remainder")


def linear(width: int = 6, seed: int = 0) -> nn.Sequential:
    """Learned depthwise pooling, then a linear layer with a bias."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(5, 5, (3, 4), groups=5),
        nn.Flatten(),
        nn.Linear(5, width),
    ).requires_grad_(False)


def neck() -> nn.Sequential:
    """Averages, a linear layer, and a neck that is not linear."""
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 6),
            nn.BatchNorm1d(6),
            nn.ReLU(),
        )
        .eval()
        .requires_grad_(False)
    )


def maps_of(count: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 5, 3, 4, generator=generator)


def many_pairs(count: int, width: int) -> tuple[Tensor, Tensor]:
    """More pairs of some images than of others."""
    rows = torch.tensor([place % count for place in range(5 * count)] + [0] * 7)
    generator = torch.Generator().manual_seed(2)
    return rows, torch.randn(len(rows), width, generator=generator)


def one_by_one(head: LinearizedHead, rows: Tensor, partners: Tensor) -> Any:
    """Explain pairs one at a time, which takes one backward pass each."""
    return [
        attribute(head, rows[pair][None], partners[pair][None])
        for pair in range(len(rows))
    ]


@pytest.mark.parametrize("make", [linear, neck])
def test_many_pairs_at_once_are_what_each_is_alone(make: Any) -> None:
    head = linearize_head(make(), maps_of(3))
    rows, partners = many_pairs(3, 6)
    found = attribute(head, rows, partners)
    for place, alone in enumerate(one_by_one(head, rows, partners)):
        for part in PARTS:
            torch.testing.assert_close(
                getattr(found, part)[place],
                getattr(alone, part)[0],
                rtol=1e-5,
                atol=1e-6,
            )


def test_a_linear_head_is_described_once_for_all_batches() -> None:
    network = linear()
    known: dict[tuple[int, ...], Any] = {}
    rows, partners = many_pairs(3, 6)
    for seed in (1, 2):
        head = linearize_head(network, maps_of(3, seed))
        shared = LinearizedHead(head.leaf, head.output, known)
        attribute(shared, rows, partners)
        if seed == 1:
            first = dict(known)
    assert list(known) == [(6, 5, 3, 4)]
    assert known == first
    # By hand: the derivative of output d at channel c and position p.
    depthwise, dense = network[0].weight[:, 0], network[2].weight
    expected = torch.einsum("dc,cp->pcd", dense, depthwise.flatten(1))
    torch.testing.assert_close(known[6, 5, 3, 4].by_position, expected)
    torch.testing.assert_close(
        known[6, 5, 3, 4].by_channel, expected.permute(1, 0, 2).contiguous()
    )


def test_other_weights_are_noticed() -> None:
    """As when a network is trained on between two runs of one model object."""
    rows, partners = many_pairs(3, 6)
    known: dict[tuple[int, ...], Any] = {}
    for seed in (0, 9):
        head = linearize_head(linear(seed=seed), maps_of(3))
        found = attribute(LinearizedHead(head.leaf, head.output, known), rows, partners)
        expected = attribute(head, rows, partners)
        torch.testing.assert_close(found.evidence, expected.evidence)
        alone = one_by_one(head, rows[:1], partners[:1])[0]
        torch.testing.assert_close(found.evidence[0], alone.evidence[0])


class Doubled(torch.autograd.Function):
    """An operation of a user's own, of which torch cannot do several at once."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # What NumPy does, vectorizing transforms do not see.
        return torch.from_numpy(gradient.detach().numpy() * 2)


def test_operations_that_cannot_be_vectorized_take_one_pass_each() -> None:
    plain = neck()

    def own(maps: Tensor) -> Tensor:
        return Doubled.apply(plain(maps))

    rows, partners = many_pairs(3, 6)
    found = attribute(linearize_head(own, maps_of(3)), rows, partners)
    expected = attribute(
        linearize_head(lambda maps: 2 * plain(maps), maps_of(3)), rows, partners
    )
    for part in PARTS:
        torch.testing.assert_close(getattr(found, part), getattr(expected, part))
    head = linearize_head(own, maps_of(3))
    assert head.pull_per_channel(rows, partners) is not None
    assert not head._vectorizes
    assert linearize_head(plain, maps_of(3))._vectorizes
