"""Where models come from: the owner's registry file, presets, FiftyOne's zoo."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.presets import PRESETS
from fiftyone_sfam.models.registry import ModelInfo, read_registry, registry_path
from fiftyone_sfam.models.zoo_index import list_zoo, zoo_models

if TYPE_CHECKING:
    import torch

    from fiftyone_sfam.network.embedder import EmbeddingModel

__all__ = ["ModelInfo", "list_models", "load_model"]

_LONGEST_SHOWN = 80


def load_model(
    name: str, *, layer: str | None = None, device: str | torch.device | None = None
) -> EmbeddingModel:
    """Load a model by its name.

    The name is looked up among the models that the machine's owner has registered, then
    among the presets, then in FiftyOne's zoo. It is only compared, never imported nor
    opened, so a name may come from a user.

    Parameters
    ----------
    name : str
        One of :func:`list_models`.
    layer : str, optional
        Layer to explain instead of the model's own choice.
    device : str or torch.device, optional
        Where to run, as torch names it; by default where the model is built.

    Returns
    -------
    EmbeddingModel
        In evaluation mode.

    Raises
    ------
    ModelError
        If there is no such model, or it cannot be loaded; the message says why.
    """
    if not isinstance(name, str):
        raise ModelError(f"a model's name is needed, not {type(name).__name__}.")
    registered = read_registry()
    if name in registered:
        from fiftyone_sfam.models.registered import load_registered

        return load_registered(registered[name], layer=layer, device=device)
    for preset in PRESETS:
        if name == preset.info.name:
            return preset.build(layer, device)
    zoo = {known for model in zoo_models() for known in (model.name, model.base_name)}
    if name in zoo:
        from fiftyone_sfam.models.zoo import load_zoo

        return load_zoo(name, layer=layer, device=device)
    raise _unknown(name)


def list_models() -> tuple[ModelInfo, ...]:
    """List the models that :func:`load_model` knows, without loading any.

    Returns
    -------
    tuple of ModelInfo
        Registered models in the order of the registry file, then presets, then zoo
        models by name. A name that occurs twice is that of the first.

    Raises
    ------
    ModelError
        If the registry file has a mistake.
    """
    registered = [entry.info for entry in read_registry().values()]
    presets = [preset.info for preset in PRESETS]
    by_name: dict[str, ModelInfo] = {}
    for info in (*registered, *presets, *list_zoo()):
        by_name.setdefault(info.name, info)
    return tuple(by_name.values())


def _unknown(name: str) -> ModelError:
    """Build the exception for a name that nothing has."""
    names = [info.name for info in list_models()]
    name = shorten(name, _LONGEST_SHOWN)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    file = registry_path()
    missing = "" if file.exists() else ", which does not exist yet"
    return ModelError(
        f"there is no model {name!r}; {hint}Models of your own are registered in "
        f"{file}{missing}."
    )
