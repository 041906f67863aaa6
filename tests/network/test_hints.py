"""Failures of a network's forward pass, and what the messages say about them.

Each error is raised by torch itself, so a change of its texts is seen here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fiftyone_sfam.network.hints import Hint, hint_of


class Net(nn.Module):
    """A network whose forward pass is a function."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.run = run
        self.conv = nn.Conv2d(3, 4, 3)
        self.gray = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, images: Tensor) -> Any:
        return self.run(self, images)


class NeedsCamera(nn.Module):
    def forward(self, images: Tensor, cam_label: Tensor, view_label: Tensor) -> Tensor:
        return images.flatten(1) + cam_label + view_label


class TakesNothing(nn.Module):
    def forward(self) -> int:
        return 0


def pooled(network: Net, images: Tensor) -> Tensor:
    return network.conv(images).mean((2, 3))


def hint(network: nn.Module, images: Tensor, **arguments: Any) -> Hint:
    # The text of any error is what is tested.
    with pytest.raises(Exception) as caught:  # noqa: PT011
        network.eval()(images, **arguments)
    return hint_of(caught.value, images.shape)


SIZE = "check that its preprocessing gives the size that the network expects"
BATCH = "use flatten(1) or squeeze(-1) there, or give it two images or more"
TYPE = (
    "turn the whole network into one type with network.float(), and let its "
    "preprocessing return floating-point images"
)
IMAGE = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("run", "way_out"),
    [
        (lambda net, x: net.fc(x.flatten(1)), SIZE),
        (lambda net, x: net.conv(x[..., :2, :2]), SIZE),
        (lambda net, x: F.avg_pool2d(x, 16), SIZE),
        (lambda net, x: net.conv(x).view(len(x), 7), SIZE),
        (lambda net, x: net.conv(x) + net.conv(x[..., 1:]), SIZE),
        (lambda net, x: torch.cat([x, x[..., 1:]], 1), SIZE),
        (lambda net, x: F.layer_norm(x, (9,)), SIZE),
        (lambda net, x: torch._assert(False, "Input height (8) doesn't match"), SIZE),
        (lambda net, x: pooled(net, x).squeeze().mean(1), BATCH),
        (lambda net, x: F.normalize(pooled(net, x).squeeze(), dim=1), BATCH),
        (lambda net, x: pooled(net, x).squeeze()[:, 0], BATCH),
        (lambda net, x: net.norm(pooled(net, x).squeeze()), BATCH),
        (lambda net, x: net.fc(pooled(net, x).double()), TYPE),
        (lambda net, x: net.conv(x.half()), TYPE),
        (lambda net, x: net.conv(x.to(torch.uint8)), TYPE),
    ],
)
def test_the_way_out_fits(run: Callable[..., Any], way_out: str) -> None:
    assert hint(Net(run), IMAGE).way_out == way_out


def test_more_arguments_are_named() -> None:
    found = hint(NeedsCamera(), IMAGE)
    assert found == (
        "it needs 'cam_label' and 'view_label' besides the images",
        'give inputs={"cam_label": ..., "view_label": ...}, with the field that holds '
        "the value of each image",
    )
    ones = dict.fromkeys(("cam_label", "view_label"), torch.ones(1, 1))
    found = hint(NeedsCamera(), IMAGE, **ones, camid=1)
    assert found.problem == "it takes no argument 'camid'"
    assert hint(TakesNothing(), IMAGE).way_out.startswith(
        "give a torch.nn.Module whose"
    )
    assert hint(nn.Module(), IMAGE).problem == "it has no forward()"
    # A function inside that is called wrongly says nothing about the inputs.
    inside = hint(Net(lambda net, x: pooled(net)), IMAGE)
    assert "images" in inside.problem
    assert "torch.rand(1, 3, 8, 8)" in inside.way_out


def test_channels_are_counted() -> None:
    found = hint(Net(lambda net, x: net.gray(x)), IMAGE)
    assert found == (
        "a convolution takes 1 channel, but got 3",
        "check that its preprocessing gives images of 1 channel",
    )


def test_a_missing_device() -> None:
    found = hint(Net(lambda net, x: net.conv(x.to("cuda:99"))), IMAGE)
    assert 'device="cpu"' in found.way_out
    assert "CUDA" in found.problem or "NVIDIA" in found.problem


def test_tensors_on_different_devices() -> None:
    found = hint(Net(lambda net, x: x + torch.zeros(8, device="meta")), IMAGE)
    assert found.problem == "it works with tensors on different devices"


def test_two_images_do_not_get_the_hint_of_a_batch_of_one() -> None:
    pair = IMAGE.expand(2, -1, -1, -1)
    single = hint(Net(lambda net, x: pooled(net, x).mean((2, 3))), IMAGE)
    found = hint(Net(lambda net, x: pooled(net, x).mean((2, 3))), pair)
    assert single.way_out == BATCH
    assert found.way_out == "run network(torch.rand(2, 3, 8, 8)) to see where it fails"


def test_other_errors_are_shown_as_they_are() -> None:
    def fails(_network: Net, _images: Tensor) -> None:
        raise KeyError("layer5")

    assert hint(Net(fails), IMAGE) == (
        "KeyError: 'layer5'",
        "run network(torch.rand(1, 3, 8, 8)) to see where it fails",
    )
