"""Maps of several scales and starting images, against a loop and on known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam import Preprocessing
from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.pair_path import explain_path
from fiftyone_sfam.attribution.path import PathAttribution, blur, smooth
from fiftyone_sfam.attribution.scales import (
    SAMPLES,
    attribute_scales,
    last_layers,
    path_layers,
)
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import similarity


class Branched(nn.Module):
    """Maps of three resolutions; inside the block, a branch that is not everything."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.narrow = nn.Conv2d(4, 4, 1)
        self.down = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(4, 6, 1, stride=2)
        self.last = nn.Conv2d(6, 5, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        first = self.stem(images).relu()
        # After ``stem`` in time and of its size, but beside the shortcut.
        branch = self.down(self.narrow(first).tanh())
        second = (branch + self.shortcut(first)).relu()
        return self.last(second).flatten(2).mean(2) + 0.1


class Wide(nn.Module):
    """One layer, whose map is as large as the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.stem(images).relu().mean((2, 3))


def model_of(network: nn.Module) -> EmbeddingModel:
    return EmbeddingModel(network, lambda image: torch.zeros(3, 8, 12))


def branched() -> EmbeddingModel:
    torch.manual_seed(3)
    return model_of(Branched())


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one(
    model: EmbeddingModel, image: Tensor, partners: Tensor, **options: Any
) -> PathAttribution:
    rows = torch.zeros(len(partners), dtype=torch.long)
    return attribute_scales(model, image[None], rows, partners, **options)


def test_layers_that_everything_comes_through() -> None:
    model, image = branched(), noise(1, 3, 8, 12)
    assert model.carries_all(image[None], "stem")
    assert not model.carries_all(image[None], "narrow")
    assert not model.carries_all(image[None], "shortcut")
    # Of the middle resolution only branches are modules.
    found = last_layers(model, image)
    names = {shape: info.name for shape, info in found.items()}
    assert names == {(2, 3): "last", (8, 12): "stem"}
    # The smallest has too few positions to tell places apart.
    assert path_layers(model, image) == (found[8, 12],)


@pytest.mark.parametrize("samples", [1, 4, 8])
@pytest.mark.parametrize("network", [Branched, Wide])
def test_a_loop_over_images_gives_the_same_map(
    network: type[nn.Module], samples: int
) -> None:
    torch.manual_seed(3)
    model, image, partner = model_of(network()), noise(1, 3, 8, 12), noise(2, 5)
    (layer,) = path_layers(model, image)
    blurred = blur(image[None])[0]
    moved = [image.roll(by, (1, 2)) for by in ((4, 6), (4, 0), (2, 4))]
    starts = [blurred, image.mean((1, 2), keepdim=True), blurred, moved[0]] * 2
    with torch.no_grad():
        change = model.network.stem(torch.stack([blurred, image])).diff(dim=0)[0]
    pixels, at_layer = torch.zeros(8, 12), torch.zeros(8, 12)
    for j in range(samples):
        share = (j + 0.5) / samples
        start = moved[1] if j == 7 else starts[j]
        shown = start + share * (image - start)
        leaf, outputs, embedding = model.record(shown[None], ["stem"])
        score = similarity(embedding, partner[None], "cosine").sum()
        slopes = torch.autograd.grad(score, [leaf, outputs["stem"]])
        pixels += (slopes[0][0] * (image - start)).sum(0) / samples
        at_layer += (slopes[1][0] * change).sum(0) / samples
    smoothed = [pixels, *(smooth(pixels[None], s)[0] for s in (0.02, 0.06, 0.12))]
    weighted = [*((1 / m.std(), m) for m in smoothed), (2 / at_layer.std(), at_layer)]
    rows = torch.zeros(1, dtype=torch.long)
    head = model.linearize(image[None])
    evidence = attribute(head, rows, partner[None], "cosine").evidence[0]
    if network is Wide:
        weighted.append((2 / evidence.std(), evidence))
    else:  # Too few positions to tell places apart.
        assert evidence.shape == (2, 3)
    expected = sum(w * m for w, m in weighted) / sum(w for w, _ in weighted)
    found = one(model, image, partner[None], samples=samples, layers=[layer])
    torch.testing.assert_close(found.path[0], expected, rtol=1e-4, atol=1e-6)
    embedding = model.embed(torch.stack([image, blurred]))
    expected = similarity(embedding, partner[None], "cosine")
    torch.testing.assert_close(torch.cat([found.score, found.blurred_score]), expected)
    torch.testing.assert_close(found.remainder, found.score - found.path.sum())


def test_an_image_without_contrast_has_no_map() -> None:
    # All starting images are the image, and nothing can be told about any place.
    model, partner = branched(), noise(2, 1, 5)
    image = torch.full((3, 8, 12), 0.7)
    found = one(model, image, partner, layers=path_layers(model, noise(1, 3, 8, 12)))
    assert float(found.path.abs().max()) < 1e-8
    torch.testing.assert_close(found.remainder, found.score)


@given(st.integers(0, 10**6), st.floats(0.1, 10), st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_partners_know_nothing_of_each_other(
    seed: int, factor: float, samples: int
) -> None:
    model, image = branched(), noise(seed, 3, 8, 12)
    partners = noise(seed + 1, 3, 5)
    options = {"samples": samples, "layers": path_layers(model, image)}
    found = one(model, image, partners, **options)
    assert bool(torch.isfinite(found.path).all())
    other = one(model, image, factor * partners.flip(0), **options)
    torch.testing.assert_close(other.path.flip(0), found.path, rtol=1e-3, atol=1e-5)
    # Less like its opposite in the same places.
    opposite = one(model, image, -partners, **options)
    torch.testing.assert_close(opposite.path, -found.path, rtol=1e-3, atol=1e-5)


def test_a_batch_is_its_single_images() -> None:
    model, images = branched(), noise(1, 3, 3, 8, 12)
    rows = torch.tensor([2, 0, 2, 2, 0])
    partners = model.embed(noise(2, 5, 3, 8, 12))
    options: dict[str, Any] = {"samples": 3, "layers": path_layers(model, images[0])}
    found = attribute_scales(model, images, rows, partners, **options)
    assert found.path.shape == (5, 8, 12)
    for row in (0, 2):
        alone = one(model, images[row], partners[rows == row], **options)
        for name in ("path", "score", "remainder", "blurred_score"):
            here = getattr(found, name)[rows == row]
            torch.testing.assert_close(here, getattr(alone, name))
    with torch.inference_mode():
        again = attribute_scales(
            model, images.clone(), rows, partners.clone(), **options
        )
    torch.testing.assert_close(again.path, found.path)


def test_a_pair_of_pictures() -> None:
    generator = np.random.default_rng(0)
    pictures = [
        Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8))
        for _ in range(2)
    ]
    torch.manual_seed(3)
    preprocess = Preprocessing((8, 12), mean=(0.5,) * 3, std=(0.25,) * 3)
    model = EmbeddingModel(Branched(), preprocess)
    images = torch.stack([model.prepare(one) for one in pictures])
    partner = model.embed(images)[1:]
    layers = path_layers(model, images[0])
    assert [info.name for info in layers] == ["stem"]
    for steps, samples in ((None, SAMPLES), (6, 6)):
        found = explain_path(model, *pictures, several_scales=True, steps=steps)[0]
        expected = one(model, images[0], partner, samples=samples, layers=layers)
        np.testing.assert_allclose(found.path, expected.path[0], atol=1e-6)


def test_a_layer_of_tokens_and_no_samples() -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=0, img_size=64, patch_size=8)
    model = EmbeddingModel(network, Preprocessing((64, 64)))
    image = noise(1, 3, 64, 64)
    # Later layers of this resolution have a class token, where a part of the sum goes.
    (layer,) = path_layers(model, image)
    assert (layer.layout, layer.shape[1:]) == ("NHWC", (8, 8))
    partner = model.embed(noise(2, 1, 3, 64, 64))
    found = one(model, image, partner, layers=[layer])
    without = one(model, image, partner)
    assert found.path.shape == (1, 64, 64)
    assert float((found.path - without.path).abs().max()) > 1e-5
    with pytest.raises(ValueError, match="samples is 0"):
        one(model, image, partner, samples=0)
