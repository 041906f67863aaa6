"""Networks of timm: ``timm:NAME``."""

from __future__ import annotations

from typing import Any

from fiftyone_sfam.data.text import type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.sources import SourceOptions, needs_extra
from fiftyone_sfam.models.sources.built import Built, InputConfig


def build(name: str, options: SourceOptions) -> Built:
    """Build a network of timm without its classifier."""
    try:
        import timm
    except ImportError as error:
        raise needs_extra("timm", "timm", "timm") from error
    kwargs = {"num_classes": 0, **options.kwargs}
    try:
        network = timm.create_model(
            name, pretrained=options.pretrained is not False, **kwargs
        )
    # timm does not document the errors of its names, options and downloads.
    except Exception as error:
        raise ModelError(
            f"timm could not build '{name}' ({type_and_first_line(error)}); "
            f"timm.list_models() lists the names."
        ) from error
    # Transformers keep the number of their patches.
    if options.size is not None and hasattr(network, "set_input_size"):
        network.set_input_size(img_size=options.size)
    return Built(network, config_of(network, kwargs.get("img_size")), options.embedding)


def config_of(network: Any, img_size: Any = None) -> InputConfig:
    """Return the configuration that a network of timm carries."""
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(network)
    if img_size is not None:
        pair = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        config["input_size"] = (config["input_size"][0], *pair)

    def transform(mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
        return create_transform(**{**config, "mean": mean, "std": std})

    height, width = config["input_size"][-2:]
    return InputConfig(
        (int(height), int(width)),
        tuple(config["mean"]),
        tuple(config["std"]),
        config["interpolation"],
        transform,
    )
