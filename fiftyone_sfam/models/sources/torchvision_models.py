"""Classification networks of torchvision: ``torchvision:NAME``."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from fiftyone_sfam.data.text import type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.sources import SourceOptions
from fiftyone_sfam.models.sources.built import Built, InputConfig


def build(name: str, options: SourceOptions) -> Built:
    """Build a network of torchvision without its last linear layer."""
    from torchvision import models

    # Not the networks for detection, segmentation and video.
    known = models.list_models(module=models)
    name, _, tag = name.partition("/")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ModelError(f"torchvision has no classification network {name!r}{hint}")
    choices = models.get_model_weights(name)
    weights: Any = choices.DEFAULT
    if tag:
        if tag not in choices.__members__:
            raise ModelError(
                f"torchvision's '{name}' has no weights '{tag}'; it has "
                f"{', '.join(member.name for member in choices)}."
            )
        weights = choices[tag]
    try:
        network = models.get_model(
            name,
            weights=None if options.pretrained is False else weights,
            **options.kwargs,
        )
    # torchvision does not document the errors of its options and downloads.
    except Exception as error:
        raise ModelError(
            f"torchvision could not build '{name}' ({type_and_first_line(error)})."
        ) from error
    _remove_classifier(network)
    preset = weights.transforms()
    return Built(
        network,
        InputConfig(
            (preset.crop_size[0], preset.crop_size[-1]),
            tuple(preset.mean),
            tuple(preset.std),
            preset.interpolation.value,
            lambda mean, std: weights.transforms(mean=mean, std=std),
        ),
        options.embedding,
    )


def _remove_classifier(network: nn.Module) -> None:
    """Replace the last linear layer, or convolution if there is none, by nothing."""
    for kind in (nn.Linear, nn.Conv2d):
        names = [name for name, m in network.named_modules() if isinstance(m, kind)]
        if names:
            parent, _, child = names[-1].rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())
            return
