"""Tiny worlds for tests: people of a few pixels, and a network of a few channels.

FiftyOne is imported by the functions that make its datasets, not with this module:
tests that need no database do without it.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing

if TYPE_CHECKING:
    import fiftyone as fo

REID = Protocol(identity_field="identity", camera_field="camera")
WIDTH, HEIGHT = 8, 16


def person(identity: int, shot: int = 0) -> Image.Image:
    """A figure with its identity's colors and stripes, each shot a little different."""
    fixed = np.random.default_rng(identity)
    pixels = np.empty((HEIGHT, WIDTH, 3))
    pixels[: HEIGHT // 2] = fixed.integers(30, 226, size=3)
    pixels[HEIGHT // 2 :] = fixed.integers(30, 226, size=3)
    pixels[fixed.integers(1, 8) :: 4] += 25
    pixels += np.random.default_rng((identity, shot)).normal(0, 12, size=pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def fill(
    dataset: fo.Dataset, folder: Path, identities: int = 4, shots: int = 3
) -> fo.Dataset:
    """Add samples with ``identity``, ``camera`` and ``split``, identity by identity."""
    import fiftyone as fo

    samples = []
    for identity in range(identities):
        for shot in range(shots):
            path = folder / f"{identity}-{shot}.png"
            person(identity, shot).save(path)
            samples.append(
                fo.Sample(
                    filepath=str(path),
                    identity=f"p{identity}",
                    camera=f"c{shot}",
                    split="query" if shot == 0 else "gallery",
                )
            )
    dataset.add_samples(samples)
    return dataset


FRAME = 48
PLACES = ((2, 3), (20, 5), (34, 28))
"""Left and top, in pixels, of the people of a frame."""


def fill_frames(
    dataset: fo.Dataset, folder: Path, frames: int = 4, listed: bool = True
) -> fo.Dataset:
    """Add frames with people in ``people``: detections, or one detection."""
    import fiftyone as fo

    samples = []
    for frame in range(frames):
        image = Image.new("RGB", (FRAME, FRAME), (90, 90, 90))
        detections = []
        for number, (left, top) in enumerate(PLACES if listed else PLACES[:1]):
            identity = (frame + number) % 4
            image.paste(person(identity, frame), (left, top))
            detections.append(
                fo.Detection(
                    label=f"p{identity}",
                    bounding_box=[
                        left / FRAME,
                        top / FRAME,
                        WIDTH / FRAME,
                        HEIGHT / FRAME,
                    ],
                    camera=f"c{frame % 2}",
                )
            )
        path = folder / f"frame-{frame}.png"
        image.save(path)
        sample = fo.Sample(filepath=str(path), site=f"s{frame % 2}")
        sample["people"] = (
            fo.Detections(detections=detections) if listed else detections[0]
        )
        samples.append(sample)
    dataset.add_samples(samples)
    return dataset


IDENTITIES, PER_IDENTITY = 6, 6
IMAGES = IDENTITIES * PER_IDENTITY


def small_crops(folder: Path, name: str = "sfam-crops") -> fo.Dataset:
    """36 crops of 6 identities."""
    from fiftyone_sfam.demo.dataset import load_demo_dataset
    from fiftyone_sfam.demo.world import DefectPlan

    return load_demo_dataset(
        f"{name}-{uuid.uuid4().hex[:8]}",
        3,
        folder,
        identities=IDENTITIES,
        images_per_identity=PER_IDENTITY,
        defects=DefectPlan.none(),
    )


def mislabel(dataset: fo.Dataset, every: int) -> list[str]:
    """Give every n-th crop the label of the next identity; return all labels."""
    labels = dataset.values("identity")
    wrong = [
        labels[(place + PER_IDENTITY) % len(labels)] if place % every == 0 else label
        for place, label in enumerate(labels)
    ]
    dataset.set_values("identity", wrong)
    return wrong


def small_frames(folder: Path, frames: int = 4) -> fo.Dataset:
    """Frames of four people."""
    from demo_frames import load_demo_frames

    return load_demo_frames(
        f"sfam-frames-{uuid.uuid4().hex[:8]}", 3, folder, frames=frames, identities=4
    )


class TinyNet(nn.Module):
    """Two convolutions, and a head that leaves a remainder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.body = nn.Conv2d(6, 8, 3, padding=1)
        self.neck = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.body(torch.relu(self.stem(images))))
        return torch.tanh(self.neck(maps.mean((2, 3))))


def tiny_network(seed: int = 0) -> TinyNet:
    """A network whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = TinyNet().eval()
    # At its full size the bias makes up nearly the whole of every similarity.
    network.neck.bias.data *= 0.1
    return network


def tiny_model(seed: int = 0, metric="cosine", **kwargs) -> EmbeddingModel:
    """An embedder of 5 numbers with feature maps of 8 x 8 x 4."""
    preprocess = kwargs.pop("preprocess", None) or Preprocessing(size=(HEIGHT, WIDTH))
    return EmbeddingModel(
        tiny_network(seed), preprocess, metric=metric, name=f"tiny-{seed}", **kwargs
    )


def embeddings_of(model: EmbeddingModel, filepaths: list[str]) -> np.ndarray:
    """Embed images one by one, without anything that a run is made of."""
    rows = []
    for filepath in filepaths:
        with Image.open(filepath) as image:
            tensor = model.preprocess(image.convert("RGB"))
        with torch.no_grad():
            rows.append(model.network(tensor[None])[0].numpy())
    return np.stack(rows)


class OwnNorm(torch.autograd.Function):
    """LayerNorm as an operation of its own, in which nothing is held constant."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, eps: float) -> torch.Tensor:
        ctx.save_for_backward(values)
        ctx.eps = eps
        return nn.functional.layer_norm(values, values.shape[1:], eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (values,) = ctx.saved_tensors
        centered = values - values.mean(1, keepdim=True)
        scale = (centered.square().mean(1, keepdim=True) + ctx.eps).rsqrt()
        along = (gradient * centered).mean(1, keepdim=True) * scale**2
        gradient = gradient - gradient.mean(1, keepdim=True) - centered * along
        return gradient * scale, None


class NormedNet(nn.Module):
    """Ends in LayerNorm without a bias, which leaves the maps next to nothing.

    With ``m`` the means of the channels and ``v`` their variance, the embedding is
    ``w (m - mean(m)) / sqrt(v + eps)``. Its derivative along the feature map is
    ``eps / (v + eps)`` of it, and so is what the evidence adds up to of every score, as
    long as the standard deviation is not held constant.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(8, eps=eps)
        nn.init.normal_(self.norm.weight, 1, 0.5)

    def means(self, images: torch.Tensor) -> torch.Tensor:
        """The means of the channels."""
        return torch.relu(self.body(images)).mean((2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        normed = OwnNorm.apply(self.means(images), self.norm.eps)
        return normed * self.norm.weight


def normed_network(eps: float = 1e-12) -> NormedNet:
    """A network of fixed weights whose maps carry as much as ``eps`` lets them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NormedNet(eps).eval()


def normed_model(eps: float = 1e-12) -> EmbeddingModel:
    """An embedder of 8 numbers with feature maps of 8 x 8 x 4."""
    return EmbeddingModel(
        normed_network(eps), Preprocessing(size=(HEIGHT, WIDTH)), name="normed"
    )


class PassCounter:
    """Counts the images that a model's network is run on.

    Finding the layer takes passes of its own, once per model: count after that.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        model.find_layer(torch.zeros(1, 3, HEIGHT, WIDTH) + 0.5)
        self.images = 0
        model.network.register_forward_hook(self._count)

    def _count(self, _module: nn.Module, inputs: tuple, _output: object) -> None:
        self.images += len(inputs[0])
