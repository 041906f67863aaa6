"""Load the models that the registry file describes, and sources."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from fiftyone_sfam.data.text import type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.registry import RegisteredModel
from fiftyone_sfam.models.sources import SourceOptions, build_source
from fiftyone_sfam.models.weights import apply_state_dict, load_state_dict
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layers import tapped
from fiftyone_sfam.network.outputs import EmbeddingKey
from fiftyone_sfam.network.transforms import with_crop_box


def load_registered(
    entry: RegisteredModel,
    *,
    layer: str | None = None,
    device: str | torch.device | None = None,
) -> EmbeddingModel:
    """Build a registered model or a source, and load its weights."""
    network, preprocess, embedding = (
        _from_source(entry) if entry.source else _from_factory(entry)
    )
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
            embedding=embedding,
            embedding_layer=embedding_layer,
            name=entry.name,
            device=device,
            precision=entry.precision,
            inputs=entry.inputs,
        )
    except ModelError as error:
        if layer is not None:
            raise
        raise entry.error("layer", error) from error


def _from_source(entry: RegisteredModel) -> tuple[nn.Module, Any, EmbeddingKey | None]:
    """Build the network of a source, and its preprocessing."""
    assert entry.source is not None
    pretrained = entry.pretrained
    if pretrained is None and entry.weights is not None:
        pretrained = False
    options = SourceOptions(
        folder=entry.folder,
        pretrained=pretrained,
        kwargs=entry.kwargs,
        size=entry.size,
        embedding=entry.embedding,
        allow_missing=entry.allow_missing,
    )
    try:
        built = build_source(entry.source, options)
        preprocess = _declared(entry)
        if preprocess is None:
            from fiftyone_sfam.models.sources.built import preprocessing_of

            preprocess = preprocessing_of(
                built.config,
                entry.name,
                size=entry.size,
                mean=entry.mean,
                std=entry.std,
            )
    except ModelError as error:
        if entry.registry is None:
            raise
        raise entry.error("source", error) from error
    _load_weights(entry, built.weights_into or built.network)
    return built.network, preprocess, built.embedding


def _from_factory(entry: RegisteredModel) -> tuple[nn.Module, Any, EmbeddingKey | None]:
    """Import the factory and call it."""
    for folder in entry.python_path:
        if not folder.is_dir():
            raise entry.error("python_path", f"the folder {folder} does not exist")
    assert entry.factory is not None
    # The factories may import more modules, so the path is kept until they return.
    with import_path(entry.python_path):
        network = _built(entry, "factory", entry.factory, dict(entry.kwargs))
        if not isinstance(network, nn.Module):
            raise entry.error(
                "factory",
                f"it returned {type(network).__name__}; a torch.nn.Module is needed",
            )
        preprocess = _declared(entry)
    _load_weights(entry, network)
    return network, preprocess, entry.embedding


def _declared(entry: RegisteredModel) -> Any:
    """Return the preprocessing that an entry declares; None if it declares none."""
    if entry.preprocess_factory is None:
        return entry.preprocess
    preprocess = _built(entry, "preprocess_factory", entry.preprocess_factory, {})
    if not callable(preprocess):
        raise entry.error(
            "preprocess_factory",
            f"it returned {type(preprocess).__name__}; a function from a Pillow image "
            "to a tensor is needed",
        )
    return preprocess


def _built(
    entry: RegisteredModel, key: str, reference: str, kwargs: dict[str, Any]
) -> Any:
    """Import a factory and call it."""
    try:
        factory: Callable[..., Any] = load_callable(
            reference, entry.folder, entry.python_path
        )
    except ModelError as error:
        raise entry.error(key, error) from error
    try:
        return factory(**kwargs)
    # The owner's code may raise any error; it is reported with its entry.
    except Exception as error:
        raise entry.error(
            key, f"{reference} failed ({type_and_first_line(error)})"
        ) from error


def _move(entry: RegisteredModel, network: nn.Module) -> None:
    """Move the network to its device, if the entry names one."""
    if entry.device is None:
        return
    try:
        network.to(entry.device)
    # The error for a missing device depends on its kind.
    except Exception as error:
        problem = f"{entry.device!r} cannot be used ({type_and_first_line(error)})"
        raise entry.error("device", problem) from error


def _load_weights(entry: RegisteredModel, network: nn.Module) -> None:
    """Load the weights, if the entry names any."""
    if entry.weights is None:
        return
    try:
        state = load_state_dict(
            entry.weights, key=entry.weights_key, strip_prefix=entry.strip_prefix
        )
        apply_state_dict(
            network,
            state,
            strict=entry.strict,
            allow_missing=entry.allow_missing,
            source=entry.weights.name,
        )
    except ModelError as error:
        raise entry.error("weights", error) from error


@contextmanager
def import_path(folders: Sequence[Path]) -> Iterator[None]:
    """Add folders to the end of the import path, and remove them."""
    entries = [str(folder) for folder in folders]
    sys.path.extend(entries)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for entry in entries:
            # Imported code may have changed the list. The last occurrence is removed.
            if entry in sys.path:
                sys.path.reverse()
                sys.path.remove(entry)
                sys.path.reverse()


def load_callable(
    reference: str, folder: Path, python_path: Sequence[Path] = ()
) -> Callable[..., Any]:
    """Import a function or class by its reference."""
    module_name, _, name = reference.rpartition(":")
    if module_name.endswith(".py"):
        module = _import_file((folder / Path(module_name).expanduser()).resolve())
    else:
        module = _import_module(module_name, python_path)
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            close = difflib.get_close_matches(part, dir(value), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise ModelError(f"{module_name} has no {part!r}{hint}")
        value = getattr(value, part)
    if not callable(value):
        raise ModelError(f"{reference} is {type(value).__name__}, not a function.")
    return value


def _import_file(file: Path) -> ModuleType:
    """Run a file as a module with a unique name."""
    if not file.is_file():
        raise ModelError(f"the file {file} does not exist.")
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:12]
    name = f"fiftyone_sfam_registered_{digest}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look the module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ModelError(
            f"{file} failed to import ({type_and_first_line(error)})."
        ) from error
    return module


def _import_module(name: str, python_path: Sequence[Path]) -> ModuleType:
    """Import a module; raise if another one hides it in the owner's folders."""
    _refuse_shadowed(name.partition(".")[0], python_path)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module may exist and import a missing one.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ModelError(
                f"there is no module {name!r}; install it, add its folder to "
                "python_path, or name the file as path/to/file.py:name."
            ) from error
        raise ModelError(
            f"the module {name!r} failed to import ({type_and_first_line(error)})."
        ) from error
    except Exception as error:
        raise ModelError(
            f"the module {name!r} failed to import ({type_and_first_line(error)})."
        ) from error


def _refuse_shadowed(root: str, python_path: Sequence[Path]) -> None:
    """Raise if another module would be imported instead of one in ``python_path``."""
    wanted = PathFinder.find_spec(root, [str(folder) for folder in python_path])
    if wanted is None or wanted.origin is None:
        return
    loaded = sys.modules.get(root)
    if loaded:
        spec = getattr(loaded, "__spec__", None)
    else:
        spec = importlib.util.find_spec(root)
    origin = getattr(spec, "origin", None)
    if origin != wanted.origin:
        raise ModelError(
            f"the module {root!r} in python_path is hidden by another of that name "
            f"({origin}); rename it, or name the file as path/to/file.py:name."
        )
