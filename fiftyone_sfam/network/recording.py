"""Record the graph of a whole network, with the outputs of some of its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.heads import as_leaf
from fiftyone_sfam.network.layers import map_of, replaced
from fiftyone_sfam.network.runner import NetworkRunner
from fiftyone_sfam.network.state import constant_parameters, device_of, hooked


def recorded(
    runner: NetworkRunner, images: Tensor, layers: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Return the leaf (B, C, H, W), the outputs of layers and the embeddings (B, D)."""
    leaf = as_leaf(images.to(device_of(runner.network)))
    outputs: dict[str, Tensor] = {}
    doubles = runner.doubles

    def keep(name: str) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            tensor = map_of(output)
            if tensor is None:
                return None
            repeats = runner.repeats(images, tensor)
            outputs[name] = tensor[:1] if repeats > 1 else tensor
            if repeats == 1:
                return None
            return replaced(output, tensor, torch.cat([outputs[name]] * repeats))

        return hook

    with (
        runner.ready(images),
        constant_parameters(runner.network),
        torch.enable_grad(),
        ExitStack() as hooks,
    ):
        for name in layers:
            hooks.enter_context(hooked(runner.module(name), keep(name)))
        # The clone lets a network work in place without touching the leaf.
        embeddings = runner.forward(leaf.clone())
    if doubles != runner.doubles:
        # The outputs are those of both rows.
        return recorded(runner, images, layers)
    missing = [name for name in layers if name not in outputs]
    if missing:
        raise ModelError(
            f"layer '{missing[0]}' of model '{runner.name}' did not run or returned "
            "no tensor; name one with a feature map."
        )
    if not embeddings.requires_grad:
        raise ModelError(
            f"model '{runner.name}' computes its embedding without a gradient down "
            "to the image; maps along a path of images need one."
        )
    return leaf, outputs, embeddings
