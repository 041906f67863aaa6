"""Load what the registry file describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.factories import describe, import_path, load_callable, tapped
from fiftyone_sfam.models.registry import RegisteredModel
from fiftyone_sfam.models.weights import apply_state_dict, load_state_dict
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.transforms import with_crop_box


def load_registered(
    entry: RegisteredModel,
    *,
    layer: str | None = None,
    device: str | torch.device | None = None,
) -> EmbeddingModel:
    """Build a registered model: import its factory, call it, load the weights."""
    for folder in entry.python_path:
        if not folder.is_dir():
            raise entry.error("python_path", f"the folder {folder} does not exist")
    # The factories themselves may import more, so the path is theirs until they return.
    with import_path(entry.python_path):
        network = _built(entry, "factory", entry.factory, dict(entry.kwargs))
        if not isinstance(network, nn.Module):
            raise entry.error(
                "factory",
                f"it returned {type(network).__name__}; a torch.nn.Module is needed",
            )
        preprocess: Any = entry.preprocess
        if entry.preprocess_factory is not None:
            preprocess = _built(
                entry, "preprocess_factory", entry.preprocess_factory, {}
            )
            if not callable(preprocess):
                raise entry.error(
                    "preprocess_factory",
                    f"it returned {type(preprocess).__name__}; a function from a "
                    "Pillow image to a tensor is needed",
                )
    _load_weights(entry, network)
    try:
        network, embedding_layer = tapped(network, entry.embedding_layer)
    except ModelError as error:
        raise entry.error("embedding_layer", error) from error
    if device is None:
        _move(entry, network)
    try:
        return EmbeddingModel(
            network.eval().requires_grad_(False),
            with_crop_box(preprocess),
            layer=layer or entry.layer,
            metric=entry.metric,
            embedding=entry.embedding,
            embedding_layer=embedding_layer,
            name=entry.name,
            device=device,
            precision=entry.precision,
        )
    except ModelError as error:
        if layer is not None:
            raise
        raise entry.error("layer", error) from error


def _built(
    entry: RegisteredModel, key: str, reference: str, kwargs: dict[str, Any]
) -> Any:
    """Import a factory and call it."""
    try:
        factory: Callable[..., Any] = load_callable(
            reference, entry.registry.parent, entry.python_path
        )
    except ModelError as error:
        raise entry.error(key, error) from error
    try:
        return factory(**kwargs)
    # Whatever the owner's code raises is reported with the entry that called it.
    except Exception as error:
        raise entry.error(key, f"{reference} failed ({describe(error)})") from error


def _move(entry: RegisteredModel, network: nn.Module) -> None:
    """Bring the network to its device, if the entry names one."""
    if entry.device is None:
        return
    try:
        network.to(entry.device)
    # Each kind of device fails in its own way where there is none.
    except Exception as error:
        problem = f"{entry.device!r} cannot be used ({describe(error)})"
        raise entry.error("device", problem) from error


def _load_weights(entry: RegisteredModel, network: nn.Module) -> None:
    """Load the weights, if the entry names any."""
    if entry.weights is None:
        return
    try:
        state = load_state_dict(
            entry.weights, key=entry.weights_key, strip_prefix=entry.strip_prefix
        )
        apply_state_dict(network, state, strict=entry.strict)
    except ModelError as error:
        raise entry.error("weights", error) from error
