"""The demo's embedder: a small CNN whose head is pooling and one linear layer.

``scripts/train_demo_network.py`` has trained it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing

DEMO_PREPROCESSING = Preprocessing(
    size=(128, 64), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
)
"""What :class:`DemoNet` expects of an image."""

DEMO_WEIGHTS = Path(__file__).parent / "weights" / "demonet.pt"
"""State dict of the packaged network, in half precision."""

RETRAINED_WEIGHTS = DEMO_WEIGHTS.with_name("retrained.pt")
"""State dict of a network that was trained further until it lost its shortcut, with
``scripts/train_demo_network.py --lose-shortcut``."""


class DemoNet(nn.Module):
    """Embeds a crop of a person of the demo world.

    ``features`` ends in a feature map of ``(channels, height / 8, width / 8)``, which
    is ``(128, 16, 8)`` for the input that it was trained on; a cell of it sees 38
    pixels in each direction. ``head`` has no bias, so the evidence of a pair adds up to
    its similarity without a remainder.
    """

    def __init__(self, channels: int = 128, dimensions: int = 64) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(3, 24, kernel=4, stride=2),
            *_block(24, 24),
            *_block(24, 48, kernel=2, stride=2),
            *_block(48, 48),
            *_block(48, 96, kernel=2, stride=2),
            *_block(96, 96),
            *_block(96, channels, kernel=1),
        )
        self.head = nn.Linear(channels, dimensions, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images."""
        pooled = self.features(images).mean(dim=(2, 3))
        return self.head(pooled)


def load_demo_network(path: Path | str = DEMO_WEIGHTS) -> DemoNet:
    """Load the packaged network, in evaluation mode."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = DemoNet()
    # Loading copies into the network's parameters, which are float32.
    network.load_state_dict(state)
    return network.eval()


def load_demo_model(
    *, layer: str | None = None, device: str | torch.device | None = None
) -> EmbeddingModel:
    """Load the packaged network as a model."""
    return EmbeddingModel(
        load_demo_network(), DEMO_PREPROCESSING, layer=layer, name="demo", device=device
    )


def _block(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1
) -> list[nn.Module]:
    # Kernel and stride are both odd or both even: each cell of the map then lies
    # exactly over its pixels, and a map stretched over the image is not shifted.
    padding = (kernel - stride) // 2
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
