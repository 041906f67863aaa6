"""Maps along a path of images, on networks whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam import Preprocessing
from fiftyone_sfam.attribution.pair_path import explain_path
from fiftyone_sfam.attribution.path import (
    attribute_path,
    attribute_paths,
    blur,
    smooth,
)
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import similarity


class Averages(nn.Module):
    """Embeds an image as the averages of its halves, one number per color and half."""

    def forward(self, images: Tensor) -> Tensor:
        left, right = images.chunk(2, dim=3)
        return torch.cat([left.mean((2, 3)), right.mean((2, 3))], 1) + 3


class Corner(nn.Module):
    """Looks at the upper left quarter only, through a layer with a kink."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        corner = images[:, :, : height // 2, : width // 2]
        return self.convolution(corner).relu().flatten(1)


class Frozen(Averages):
    """Turns gradients off, as code of a backbone may."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(images)


def model_of(network: nn.Module, **options: Any) -> EmbeddingModel:
    return EmbeddingModel(network, lambda image: torch.zeros(3, 8, 12), **options)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def corner_model(seed: int = 0) -> EmbeddingModel:
    torch.manual_seed(seed)
    return model_of(Corner())


def test_a_path_worked_out_by_hand() -> None:
    # A step of height 4 between the halves; blurred, part of it moves across.
    image = torch.zeros(3, 8, 12)
    image[:, :, :6] = 4
    model = model_of(Averages(), metric="euclidean")
    partner = torch.tensor([[5.0, 5.0, 5.0, 3.0, 3.0, 3.0]])
    found = attribute_path(model, image, partner, steps=200)
    start = blur(image[None])
    ends = model.embed(torch.cat([start, image[None]]))
    assert ends[1].tolist() == [7, 7, 7, 3, 3, 3]
    # 1 - d^2 / (|e_q|^2 + |e_g|^2) = 1 - 12 / (174 + 102)
    assert float(found.score) == pytest.approx(1 - 12 / 276)
    expected = float(similarity(ends[0], partner[0], "euclidean"))
    assert float(found.blurred_score) == pytest.approx(expected)
    # The whole score is in the path but what the blurred image has, to the step.
    assert float(found.remainder) == pytest.approx(expected, abs=1e-5)
    assert float(found.path.sum()) == pytest.approx(1 - 12 / 276 - expected, abs=1e-5)
    # Rows are alike, and far from the step nothing is blurred and nothing added.
    torch.testing.assert_close(found.path[0], found.path[0, :1].expand(8, -1))
    assert bool((found.path[0, :, [0, 11]].abs() < 1e-7).all())
    assert bool((found.path[0, :, 5:7].abs() > 1e-5).all())


def test_a_network_that_looks_at_a_corner() -> None:
    image = noise(1, 3, 8, 12)
    found = attribute_path(corner_model(), image, noise(2, 2, 5 * 4 * 6))
    inside = torch.zeros(8, 12, dtype=torch.bool)
    inside[:4, :6] = True
    assert not bool(found.path[:, ~inside].any())
    assert bool(found.path[:, inside].all())


def test_more_steps_leave_a_smaller_error() -> None:
    image, partner = noise(1, 3, 8, 12), noise(2, 1, 5 * 4 * 6)
    errors = []
    for steps in (1, 4, 64):
        found = attribute_path(corner_model(), image, partner, steps=steps)
        errors.append(abs(float(found.remainder - found.blurred_score)))
    assert errors[2] < errors[0] / 20
    assert errors[2] < errors[1]
    assert errors[2] < 2e-3


def test_an_image_with_itself_does_not_vanish() -> None:
    model, image = corner_model(), noise(1, 3, 8, 12)
    found = attribute_path(model, image, model.embed(image[None]), steps=16)
    assert float(found.score) == pytest.approx(1)
    assert float(found.path.sum()) > 0.1


@given(st.integers(0, 10**6), st.floats(0.1, 10), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_sums_scale_and_order(seed: int, factor: float, steps: int) -> None:
    model, image = corner_model(seed), noise(seed, 3, 8, 12)
    partners = noise(seed + 1, 3, 5 * 4 * 6)
    found = attribute_path(model, image, partners, steps=steps)
    embedding = model.embed(image[None])
    torch.testing.assert_close(found.score, similarity(embedding, partners))
    torch.testing.assert_close(found.path.sum((1, 2)) + found.remainder, found.score)
    # The cosine knows no lengths, and partners know nothing of each other.
    other = attribute_path(model, image, factor * partners.flip(0), steps=steps)
    torch.testing.assert_close(other.path.flip(0), found.path, rtol=1e-4, atol=1e-6)
    soft = smooth(found.path, 0.2)
    torch.testing.assert_close(
        soft.sum((1, 2)), found.path.sum((1, 2)), rtol=1e-4, atol=1e-5
    )


def test_the_network_is_left_as_it_was() -> None:
    model = corner_model()
    model.network.train()
    attribute_path(model, noise(1, 3, 8, 12), noise(2, 1, 5 * 4 * 6))
    assert model.network.training
    weight = next(model.network.parameters())
    assert weight.requires_grad
    assert weight.grad is None


def test_inside_inference_mode() -> None:
    model, image, partner = corner_model(), noise(1, 3, 8, 12), noise(2, 1, 5 * 4 * 6)
    expected = attribute_path(model, image, partner)
    with torch.inference_mode():
        found = attribute_path(model, image.clone(), partner.clone())
    torch.testing.assert_close(found.path, expected.path)


def test_unusable_requests() -> None:
    image, partner = noise(1, 3, 8, 12), noise(2, 1, 6)
    with pytest.raises(ModelError, match="without a gradient down to the image"):
        attribute_path(model_of(Frozen()), image, partner)
    with pytest.raises(ValueError, match="steps is 0"):
        attribute_path(model_of(Averages()), image, partner, steps=0)


def test_a_pair_of_pictures(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pictures = [
        Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8))
        for _ in range(2)
    ]
    pictures[1].save(tmp_path / "other.png")
    preprocess = Preprocessing((8, 12), mean=(0.5,) * 3, std=(0.25,) * 3)
    model = EmbeddingModel(Averages(), preprocess)
    sides = explain_path(model, pictures[0], tmp_path / "other.png")
    images = torch.stack([model.prepare(one) for one in pictures])
    one, other = model.embed(images)
    for own, side in enumerate(sides):
        partner = (other, one)[own]
        expected = attribute_path(model, images[own], partner[None])
        np.testing.assert_allclose(side.path, expected.path[0], atol=1e-6)
        assert side.score == pytest.approx(float(similarity(one, other)), abs=1e-6)
        total = float(side.path.sum()) + side.remainder
        assert total == pytest.approx(side.score, abs=1e-6)
        assert side.crop == (0, 0, 1, 1)


def test_a_batch_is_its_single_images() -> None:
    model, images = corner_model(3), noise(1, 3, 3, 8, 12)
    rows = torch.tensor([2, 0, 2, 2, 0])
    partners = model.embed(noise(2, 5, 3, 8, 12))
    found = attribute_paths(model, images, rows, partners, steps=3)
    assert found.path.shape == (5, 8, 12)
    for row in (0, 2):
        alone = attribute_path(model, images[row], partners[rows == row], steps=3)
        for name in ("path", "score", "remainder", "blurred_score"):
            here = getattr(found, name)[rows == row]
            torch.testing.assert_close(here, getattr(alone, name))
