"""Where models come from: the registry file, presets, FiftyOne's zoo, libraries."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.registry import (
    ModelInfo,
    entry_of_source,
    read_registry,
    registry_path,
)
from fiftyone_sfam.models.sources import parse_source
from fiftyone_sfam.models.zoo import (
    list_zoo,
    load_zoo,
    runs_downloaded_code,
    zoo_models,
)

if TYPE_CHECKING:
    import torch

    from fiftyone_sfam.network.embedder import EmbeddingModel

__all__ = ["ModelInfo", "list_models", "load_model"]

_LONGEST_SHOWN = 80

_DEMO = ModelInfo("demo", "preset", "cosine", "Small re-ID network of the demo people")
_DLIB_FACE = ModelInfo(
    "dlib-face",
    "preset",
    "euclidean",
    "dlib's ResNet-29 for aligned 150x150 face chips (extra [face]); finer maps at the "
    "layers conv256_2 and conv128_2",
)


def load_model(
    name: str,
    *,
    layer: str | None = None,
    device: str | torch.device | None = None,
    **options: Any,
) -> EmbeddingModel:
    """Load a model by its name, or from another library by its source.

    A name is looked up first among the models that the machine's owner has registered,
    then among the presets, then in FiftyOne's zoo. Any other text may be a source:
    ``timm:NAME``, ``torchvision:NAME`` or ``onnx:PATH``. A source imports code or opens
    a file, so it must not come from a user of an application; :func:`known_name` tells.

    Parameters
    ----------
    name : str
        Name of a model, see :func:`list_models`, or a source.
    layer : str, optional
        Layer to explain instead of the model's default.
    device : str or torch.device, optional
        Where to run, as torch names it; by default where the model is built.
    **options
        For sources only, the same as the keys of the registry file: ``pretrained``,
        ``weights``, ``weights_key``, ``strip_prefix``, ``strict``, ``allow_missing``,
        ``kwargs``, ``size``, ``mean``, ``std``, ``preprocess`` (which may be any
        callable here), ``embedding``, ``embedding_layer``, ``metric``, ``precision``.

    Returns
    -------
    EmbeddingModel
        In evaluation mode.

    Raises
    ------
    ModelError
        If there is no such model, or it cannot be loaded.

    Warns
    -----
    SfamWarning
        If a source does not say how its images are prepared, or if weights of a file
        are not used.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import load_model
    >>> model = load_model("demo")
    >>> model.embed(model.prepare(Image.new("RGB", (64, 128)))[None]).shape
    torch.Size([1, 64])
    >>> model = load_model("torchvision:resnet18", pretrained=False)
    >>> model.embed(model.prepare(Image.new("RGB", (64, 128)))[None]).shape
    torch.Size([1, 512])
    """
    if not isinstance(name, str):
        raise ModelError(f"a model's name is needed, not {type(name).__name__}.")
    model = None if _is_name(name) else parse_source(name)
    if model is not None:
        from fiftyone_sfam.models.registered import load_registered

        entry = entry_of_source(model, options)
        return load_registered(entry, layer=layer, device=device)
    if options:
        raise ModelError(
            f"the model {shorten(name, _LONGEST_SHOWN)!r} takes no options, but "
            f"{next(iter(options))!r} is given; only sources such as "
            "'timm:convnext_atto' do."
        )
    return load_named(name, layer=layer, device=device)


def load_named(
    name: str, *, layer: str | None = None, device: str | torch.device | None = None
) -> EmbeddingModel:
    """Load a registered model, a preset or a zoo model, and nothing else.

    The name is only compared, never imported or opened, so it may come from a user.
    """
    registered = read_registry()
    if name in registered:
        from fiftyone_sfam.models.registered import load_registered

        return load_registered(registered[name], layer=layer, device=device)
    if name == _DEMO.name:
        from fiftyone_sfam.demo.network import load_demo_model

        return load_demo_model(layer=layer, device=device)
    if name == _DLIB_FACE.name:
        from fiftyone_sfam.models.dlib_face import load_dlib_face

        return load_dlib_face(layer=layer, device=device)
    if any(name in (model.name, model.base_name) for model in zoo_models()):
        return load_zoo(name, layer=layer, device=device)
    raise _unknown(name)


def known_name(name: str) -> str:
    """Return the name of a registered model, a preset or a zoo model; raise otherwise.

    Whatever comes from a form, a request or a stored run passes through here before it
    reaches :func:`load_model`.
    """
    if not _is_name(name):
        raise _unknown(name)
    if name not in read_registry() and any(
        name in (model.name, model.base_name) and runs_downloaded_code(model)
        for model in zoo_models()
    ):
        raise ModelError(
            f"FiftyOne loads the zoo model {name!r} with code that it downloads, which "
            "neither the App nor a stored run may start: give the model in Python, as "
            f"load_model({name!r}), or register it in {registry_path()}."
        )
    return name


def _is_name(name: str) -> bool:
    """Return whether a model that is not a source has this name."""
    return (
        name in read_registry()
        or name in (_DEMO.name, _DLIB_FACE.name)
        or any(name in (model.name, model.base_name) for model in zoo_models())
    )


def list_models() -> tuple[ModelInfo, ...]:
    """List the models that :func:`load_model` knows, without loading any.

    Returns
    -------
    tuple of ModelInfo
        Registered models in the order of the registry file, then presets, then zoo
        models by name. Of several models with one name, the first is listed, which is
        the one that :func:`load_model` loads.

    Raises
    ------
    ModelError
        If the registry file has a mistake.

    Examples
    --------
    >>> from fiftyone_sfam import list_models
    >>> [model.name for model in list_models() if model.source == "preset"]
    ['demo', 'dlib-face']
    """
    registered = [entry.info for entry in read_registry().values()]
    by_name: dict[str, ModelInfo] = {}
    for info in (*registered, _DEMO, _DLIB_FACE, *list_zoo()):
        by_name.setdefault(info.name, info)
    return tuple(by_name.values())


def _unknown(name: str) -> ModelError:
    """Build the exception for a name that no model has."""
    names = [info.name for info in list_models()]
    name = shorten(name, _LONGEST_SHOWN)
    if parse_source(name) is not None:
        return ModelError(
            f"there is no model {name!r} in {registry_path()}. A source is loaded only "
            "where it is given in Python or on the command line, not from a form or a "
            "stored run: give it as the model, or ask the owner of this machine to "
            "register it."
        )
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    file = registry_path()
    missing = "" if file.exists() else ", which does not exist yet"
    return ModelError(
        f"there is no model {name!r}; {hint}Models of your own are registered in "
        f"{file}{missing}."
    )
