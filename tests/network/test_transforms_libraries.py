"""Crop boxes of the transforms of timm, open_clip, facenet-pytorch, transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio, TrimBorder
from timm.data.transforms_factory import transforms_imagenet_eval
from torchvision import transforms as T  # noqa: N812
from transformers import (
    CLIPImageProcessor,
    ConvNextImageProcessor,
    DeiTImageProcessor,
    EfficientNetImageProcessor,
    LevitImageProcessor,
    PoolFormerImageProcessor,
    ViTImageProcessor,
)

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.image_processors import _stated_box, measured_box
from fiftyone_sfam.network.transforms import crop_box_of, with_crop_box

SIZES = [(50, 80), (120, 90), (64, 64), (33, 17)]

each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def close(box: Any, expected: Any, size: tuple[int, int]) -> bool:
    """Compare boxes, up to a percent of the image."""
    scale = np.array(size * 2)
    return bool(np.abs((np.array(box) - np.array(expected)) / scale).max() < 0.01)


@each_size
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("target", [(32, 32), (48, 24)], ids=str)
def test_timm(size: tuple[int, int], mode: str, target: tuple[int, int]) -> None:
    transform = transforms_imagenet_eval(
        target, crop_pct=0.8, crop_mode=mode, crop_border_pixels=2
    )
    box = with_crop_box(transform).crop_box(*size)
    assert close(box, measured_box(transform, *size), size)
    if mode == "squash":
        inner = (size[0] - 4, size[1] - 4)
        assert box[0] == pytest.approx(2 + 0.1 * inner[0], abs=inner[0] * 0.02)


def test_timm_by_hand() -> None:
    # 60 x 100 becomes 24 x 40, of which the central 20 x 20 are seen.
    steps = [ResizeKeepRatio((24, 24)), CenterCropOrPad(20), T.ToTensor()]
    assert crop_box_of(T.Compose(steps), 60, 100) == (5, 25, 55, 75)
    # The longer side becomes 24, the shorter 14.4, and 5 and 4.8 pixels are padded.
    steps = [ResizeKeepRatio((24, 24), longest=1), CenterCropOrPad(24)]
    assert crop_box_of(T.Compose(steps), 60, 100) == pytest.approx(
        (-5 / 14 * 60, 0, 19 / 14 * 60, 100)
    )
    assert crop_box_of(TrimBorder(3), 60, 100) == (3, 3, 57, 97)
    with pytest.raises(ModelError, match="ResizeKeepRatio changes the size of images"):
        crop_box_of(ResizeKeepRatio((24, 24), random_scale_prob=0.5), 60, 100)


@each_size
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_open_clip(size: tuple[int, int], mode: str) -> None:
    transform = image_transform_v2(
        PreprocessCfg(size=32, resize_mode=mode), is_train=False
    )
    box = with_crop_box(transform).crop_box(*size)
    assert close(box, measured_box(transform, *size), size)


def fixed_image_standardization(pixels: torch.Tensor) -> torch.Tensor:
    """As facenet-pytorch has it."""
    return (pixels - 127.5) / 128


def test_facenet() -> None:
    transform = T.Compose(
        [T.Resize((16, 16)), np.float32, T.ToTensor(), fixed_image_standardization]
    )
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    model = EmbeddingModel(network, transform)
    prepared = model.prepare(Image.new("RGB", (20, 30), (255, 0, 127)))
    assert prepared.shape == (3, 16, 16)
    assert prepared[:, 0, 0].tolist() == [127.5 / 128, -127.5 / 128, -0.5 / 128]
    assert model.crop_box(20, 30) == (0, 0, 20, 30)
    unknown = T.Compose([np.rot90, T.ToTensor()])
    with pytest.raises(ModelError, match="the transform rot90 is not known to keep"):
        with_crop_box(unknown).crop_box(20, 30)


# -- image processors ------------------------------------------------------------------


@each_size
@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessor(size={"height": 32, "width": 24}),
        DeiTImageProcessor(
            size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}
        ),
        CLIPImageProcessor(
            size={"shortest_edge": 40}, crop_size={"height": 32, "width": 48}
        ),
    ],
    ids=lambda processor: type(processor).__name__,
)
def test_attributes_of_processors_say_what_is_measured(
    processor: Any, size: tuple[int, int]
) -> None:
    preprocess = with_crop_box(processor)
    stated = _stated_box(processor, *size)
    assert stated is not None
    assert preprocess.crop_box(*size) == stated
    assert close(measured_box(preprocess, *size), stated, size)


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        # 224 / 256 of the shorter side, in the middle.
        (
            ConvNextImageProcessor(size={"shortest_edge": 28}),
            (0.0625 * 64, 0.5 * 96 - 28, 0.9375 * 64, 0.5 * 96 + 28),
        ),
        (
            LevitImageProcessor(
                size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
            ),
            (0.0625 * 64, 0.5 * 96 - 28, 0.9375 * 64, 0.5 * 96 + 28),
        ),
        # 28 of 31 pixels.
        (
            PoolFormerImageProcessor(
                size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
            ),
            (64 / 31, 48 - 14 / 31 * 64, 64 - 64 / 31 * 2, 48 + 14 / 31 * 64),
        ),
        (
            EfficientNetImageProcessor(size={"height": 40, "width": 40}),
            (0, 0, 64, 96),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_processors_of_their_own_kind_are_measured(
    processor: Any, expected: tuple[float, ...]
) -> None:
    assert _stated_box(processor, 64, 96) is None
    box = with_crop_box(processor).crop_box(64, 96)
    # Half a pixel of the smaller side.
    assert np.abs(np.array(box) - expected).max() < 64 / 28


def test_what_cannot_be_measured() -> None:
    def constant(_image: Image.Image) -> torch.Tensor:
        return torch.zeros(3, 4, 4)

    def mirrored(image: Image.Image) -> torch.Tensor:
        return T.ToTensor()(image).flip(2)

    with pytest.raises(ModelError, match="the same values for black and white images"):
        measured_box(constant, 20, 30)
    with pytest.raises(
        ModelError, match="more to the geometry of images than resizing"
    ):
        measured_box(mirrored, 20, 30)


def test_a_processor_of_texts_and_images() -> None:
    class ProcessorMixin:
        image_processor = ViTImageProcessor(size={"height": 8, "width": 4})

    model = with_crop_box(ProcessorMixin())
    assert model(Image.new("L", (3, 3))).shape == (3, 8, 4)
    assert model.crop_box(7, 9) == (0, 0, 7, 9)
