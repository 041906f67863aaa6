"""Images for random networks, and weights like those of trained ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_LAYER_SCALES = ("gamma", "layer_scale", "lambda", "ls1", "ls2", "layerscale")
_TOKENS = ("cls_token", "class_token", "reg_token", "dist_token", "register_tokens")


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Make a smooth random image, shape (1, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 3, height, width)
    for cells in (2, 5, 16):
        noise = torch.randn(1, 3, cells, cells, generator=generator)
        image += F.interpolate(noise, (height, width), mode="bilinear")
    return image


def as_trained(network: nn.Module, images: Tensor) -> nn.Module:
    """Give a network random weights of the magnitudes that trained ones have.

    As they are made, many networks ignore the image: layer scales are 1e-6, linear
    layers are small against class tokens and positions, and the running statistics of
    batch norms are not those of any image.
    """
    generator = torch.Generator().manual_seed(1)

    def draw(parameter: Tensor, mean: float, spread: float) -> None:
        parameter.data.normal_(mean, spread, generator=generator)

    for module in network.modules():
        kind = type(module).__name__
        is_norm = "Norm" in kind or kind.endswith("GRN")
        for name, parameter in module.named_parameters(recurse=False):
            if any(part in name for part in _LAYER_SCALES) and not is_norm:
                draw(parameter, 0.5, 0.1)
            elif any(part in name for part in _TOKENS):
                draw(parameter, 0.0, 0.5)
            elif is_norm:
                draw(parameter, float("bias" not in name), 0.1)
            elif isinstance(module, nn.Linear) or name == "in_proj_weight":
                if parameter.ndim == 2:
                    draw(parameter, 0.0, parameter.shape[1] ** -0.5)
                else:
                    draw(parameter, 0.0, 0.1)
    calibrated(network, images)
    return network.eval()


def calibrated(network: nn.Module, images: Tensor) -> None:
    """Give batch norms the statistics of a few images."""
    norms = [
        m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    network.eval()
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None
    if norms:
        height, width = images.shape[2:]
        more = [picture(height, width, seed) for seed in range(10, 15)]
        with torch.no_grad():
            network(torch.cat([images, *more]))
    network.eval()
