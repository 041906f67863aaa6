"""The quick rows of ``make check-architectures``, and what its checks would find."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from architectures import cases
from architectures_measured import (
    Case,
    ReplayedHead,
    broken_bounds,
    measured,
    moves,
    run_head,
)
from torch import Tensor, nn

from fiftyone_sfam.network.embedder import EmbeddingModel

QUICK = (
    "timm vit_tiny_patch16_224",
    "timm deit_tiny_distilled_patch16_224",
    "timm regnety_002",
    "timm starnet_s1",
    "timm mobilenetv3_small_050",
    "open_clip ViT visual",
    "open_clip CoCa visual",
    "transformers Dinov2WithRegistersModel",
    "transformers DINOv3ViTModel",
    "transformers SiglipVisionModel",
    "transformers SwinModel",
    "transformers ConvNextModel",
    "by hand iResNet",
    "by hand AdaFace",
    "by hand OSNet",
    "by hand TransReID",
    "by hand TransReID, jigsaw",
    "by hand PCB",
    "by hand MGN",
    "by hand AGW",
    "by hand GeM and BNNeck",
    "by hand spatial attention",
    "by hand query attention",
    "by hand ViT, unit length",
    "by hand mirror image",
    "by hand halves",
)
CASES = {f"{case.library} {case.name}": case for case in reversed(cases())}


def test_there_are_enough_networks() -> None:
    assert len(cases()) >= 60
    assert {case.library for case in cases()} == {
        "timm",
        "torchvision",
        "open_clip",
        "transformers",
        "facenet-pytorch",
        "pytorch-metric-learning",
        "by hand",
    }


@pytest.mark.parametrize("name", QUICK)
def test_the_maps_add_up_and_follow_the_image(name: str) -> None:
    row = measured(CASES[name])
    assert (row.broken, row.refusal) == ((), "")
    assert row.sum_error < 1e-5
    assert row.carries_all


def test_where_layers_are_found() -> None:
    """Class and register tokens are left out, and the grid may not be square."""
    row = measured(CASES["transformers Dinov2WithRegistersModel"])
    assert (row.layer, row.layout, row.shape) == ("embeddings", "tokens", (48, 4, 4))
    assert row.prefix_tokens == 5
    row = measured(CASES["by hand TransReID"])
    assert (row.layer, row.shape) == ("patch_embed", (48, 21, 10))
    # Without held heads the maps would be empty.
    assert abs(row.share_before) < 0.01 < 0.3 < row.share


class Curved(nn.Module):
    """A head that is no product of held values and the map: its square."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return (self.conv(images).square() + 1).mean((2, 3))


def test_the_remainder_is_the_head_at_zero() -> None:
    """``e = J A + b`` of the square: its tangent at zero is ``1 - A^2``."""
    torch.manual_seed(0)
    network = Curved().eval()
    model = EmbeddingModel(network, nn.Identity(), layer="conv")
    images = torch.randn(2, 3, 16, 16)
    info = model.find_layer(images)
    records = ReplayedHead()
    run = run_head(model, images, info, records)
    zero = run_head(model, images, info, ReplayedHead(records), at_zero=True)
    expected = (1 - run.leaves[0].detach().square()).mean((2, 3))
    torch.testing.assert_close(zero.output.detach(), expected)


def test_broken_bounds_are_named() -> None:
    case = CASES["by hand iResNet"]
    row = measured(case)
    changes = {
        "the embeddings are the same": {"difference": 0.001},
        "the parts do not add up to the score": {"sum_error": 2e-4},
        "the held head has another value": {"forward_error": 2e-5},
        "a batch and a single image differ": {"single_error": 2e-5},
        "the map carries nothing": {"share": 0.05},
        "the map does not move with a patch": {"moves": (0.3, -0.1)},
    }
    for text, change in changes.items():
        assert broken_bounds(replace(row, **change), case) == (text,)
    assert broken_bounds(row, replace(case, refused="mirror")) == ("not refused",)
    # Rounding that float64 does not have is accepted.
    rounded = replace(row, single_error=1e-3, double_error=1e-14)
    assert broken_bounds(rounded, case) == ()


def without_maps() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))


def test_a_refusal_that_is_not_expected_is_broken() -> None:
    case = Case(library="by hand", name="means", build=without_maps)
    row = measured(case)
    assert row.broken == ("refused",)
    assert "no layer with a map of the image" in row.refusal
    assert measured(replace(case, refused="with a map of the image")).broken == ()


class Mirrored(nn.Module):
    """Its map is that of the mirror image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images.flip(3)).mean((2, 3))


def test_a_mirrored_map_moves_the_other_way() -> None:
    torch.manual_seed(0)
    model = EmbeddingModel(Mirrored(), nn.Identity(), layer="conv", layout="NCHW")
    across, down = moves(model, (32, 32))
    assert across < -0.2
    assert down > 0.2


@pytest.mark.parametrize(
    "pooling",
    [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
        nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()),
        nn.Sequential(nn.Flatten(), nn.Linear(96, 4), nn.BatchNorm1d(4)),
        nn.Sequential(
            nn.Conv2d(6, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ),
    ],
)
def test_where_nothing_is_held_the_bytes_are_those_of_the_plain_gradient(
    pooling: nn.Module,
) -> None:
    torch.manual_seed(0)
    trunk = nn.Conv2d(3, 6, 3, padding=1, stride=2)
    network = nn.Sequential(trunk, nn.Sequential(pooling)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    images = torch.randn(2, 3, 8, 8)
    model = EmbeddingModel(network, nn.Identity(), layer="0")
    head = model.linearize(images)
    assert not model._runner.heads["0"].is_held
    partners = head.embedding[[1, 0]]

    # With the mode entered, as before it is known that nothing is held.
    info = model.find_layer(images)
    model._runner.heads.clear()
    held = model._runner.split(images, info)
    assert held.head.count == 0
    assert torch.equal(held.output, head.embedding)
    assert torch.equal(
        torch.autograd.grad(held.output, held.leaf, partners)[0], head.vjp(partners)
    )

    memory = model._runner._memory_format
    assert memory is not None
    with torch.no_grad():
        maps = trunk(images.contiguous(memory_format=memory))
    leaf = maps.clone().requires_grad_(True)
    output = network[1](leaf.clone())
    assert torch.equal(output, head.embedding)
    (gradient,) = torch.autograd.grad(output, leaf, partners)
    assert torch.equal(gradient, head.vjp(partners))
