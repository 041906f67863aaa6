"""The box that a transform shows, against where its pixels really come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fiftyone.utils.torch import MaxResize, MinResize, PatchSize, ToPILImage
from PIL import Image
from torch import nn
from torchvision import transforms as tvt
from torchvision.models import ResNet18_Weights
from torchvision.transforms import v2

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.network.transforms import (
    TransformPreprocessing,
    crop_box_of,
    with_crop_box,
)

NORMALIZE = tvt.Normalize([0.5] * 3, [0.5] * 3)


def ramp(width: int, height: int) -> Image.Image:
    """An image whose red tells the column and whose green tells the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


TRANSFORMS: dict[str, Any] = {
    "resize": tvt.Compose([tvt.Resize((40, 30)), tvt.ToTensor()]),
    "resize and crop": tvt.Compose(
        [tvt.Resize(64), tvt.CenterCrop(48), tvt.ToTensor()]
    ),
    "odd crop": tvt.Compose(
        [tvt.Resize([51]), tvt.CenterCrop((20, 37)), tvt.ToTensor()]
    ),
    "max size": tvt.Compose(
        [tvt.Resize(60, max_size=80), tvt.CenterCrop(30), tvt.ToTensor()]
    ),
    "crop, then resize": tvt.Compose(
        [tvt.CenterCrop(100), tvt.Resize(33), tvt.ToTensor()]
    ),
    "crop only": tvt.Compose([tvt.CenterCrop((91, 60)), tvt.PILToTensor()]),
    "nested": tvt.Compose(
        [tvt.Compose([tvt.Resize(64), tvt.CenterCrop(48)]), tvt.ToTensor()]
    ),
    "sequential": nn.Sequential(v2.PILToTensor(), tvt.Resize(64), tvt.CenterCrop(48)),
    "second version": v2.Compose(
        [v2.Resize(64), v2.CenterCrop(48), v2.PILToTensor(), v2.ToDtype(torch.float)]
    ),
    "longer side": v2.Compose(
        [v2.Resize(None, max_size=70), v2.CenterCrop((30, 33)), v2.PILToTensor()]
    ),
    "enlarged": tvt.Compose([ToPILImage(), MinResize(224), tvt.ToTensor()]),
    "enlarged, cropped": tvt.Compose(
        [MinResize((150, 170)), tvt.CenterCrop(140), tvt.ToTensor()]
    ),
    "shrunk": tvt.Compose([MaxResize(70), tvt.CenterCrop(30), tvt.ToTensor()]),
    "patches": tvt.Compose([tvt.Resize(100), PatchSize(14), tvt.ToTensor()]),
    "weights": ResNet18_Weights.DEFAULT.transforms(crop_size=90, resize_size=110),
}


@pytest.mark.parametrize("size", [(200, 120), (110, 230), (150, 150)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_boxes_are_where_the_pixels_come_from(name: str, size: tuple[int, int]) -> None:
    transform = TRANSFORMS[name]
    output = transform(ramp(*size))
    if name == "weights":
        mean, std = (
            torch.tensor(v)[:, None, None] for v in (transform.mean, transform.std)
        )
        output = output * std + mean
    output = output.double()
    if output.max() <= 1.001:
        output = output * 255
    left, top, right, bottom = crop_box_of(transform, *size)
    rows, columns = output.shape[1:]
    # Centers of the output's pixels, in pixels of the image.
    x = left + (torch.arange(columns) + 0.5) / columns * (right - left) - 0.5
    y = top + (torch.arange(rows) + 0.5) / rows * (bottom - top) - 0.5
    # Resizing blurs the ends of a ramp, and rounds to whole values.
    inner = (slice(3, rows - 3), slice(3, columns - 3))
    assert (output[0] - x)[inner].abs().max() < 0.6
    assert (output[1] - y[:, None])[inner].abs().max() < 0.6


def test_boxes_by_hand() -> None:
    """200 x 100 becomes 128 x 64, of which the middle 48 x 48 is kept."""
    transform = tvt.Compose(
        [tvt.Resize(64), tvt.CenterCrop(48), tvt.ToTensor(), NORMALIZE]
    )
    assert crop_box_of(transform, 200, 100) == (62.5, 12.5, 137.5, 87.5)
    assert crop_box_of(transform, 100, 200) == (12.5, 62.5, 87.5, 137.5)
    assert crop_box_of(tvt.Resize((9, 9)), 200, 100) == (0, 0, 200, 100)


def test_padding_reaches_beyond_the_image() -> None:
    transform = tvt.Compose([tvt.CenterCrop((30, 21)), tvt.ToTensor()])
    assert crop_box_of(transform, 10, 40) == (-5, 5, 16, 35)
    output = transform(ramp(10, 40))
    # The padding is black; the first column of the image follows it.
    assert (output[1, :, :5] == 0).all()
    assert (output[1, 0, 5:15] * 255).round().tolist() == [5.0] * 10


@pytest.mark.parametrize(
    "step",
    [
        tvt.RandomCrop(8),
        tvt.Lambda(lambda x: x),
        tvt.FiveCrop(8),
        tvt.RandomRotation(9),
    ],
)
def test_unknown_geometry_is_refused(step: Any) -> None:
    transform = tvt.Compose([tvt.Resize(16), step, tvt.ToTensor()])
    with pytest.raises(ModelError, match=f"{type(step).__name__} is not known to keep"):
        crop_box_of(transform, 20, 30)


def test_transforms_as_preprocessing() -> None:
    transform = tvt.Compose([tvt.Resize(64), tvt.CenterCrop(48), tvt.ToTensor()])
    preprocess = with_crop_box(transform)
    assert isinstance(preprocess, TransformPreprocessing)
    gray = Image.new("LA", (200, 100), (128, 7))
    assert preprocess(gray).shape == (3, 48, 48)
    assert preprocess.crop_box(200, 100) == (62.5, 12.5, 137.5, 87.5)
    declared = Preprocessing((4, 4))
    assert with_crop_box(declared) is declared
    assert with_crop_box(preprocess) is preprocess

    def own(image: Image.Image) -> torch.Tensor:
        return torch.zeros(3, 4, 4)

    assert with_crop_box(own) is own
