"""Find the functions that the owner's registry file names."""

from __future__ import annotations

import copy
import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fiftyone_sfam.data.text import first_line
from fiftyone_sfam.errors import ModelError


@contextmanager
def import_path(folders: Sequence[Path]) -> Iterator[None]:
    """Add folders to the end of the import path, and take them off again."""
    entries = [str(folder) for folder in folders]
    sys.path.extend(entries)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for entry in entries:
            # Imported code may have changed the list.
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
    """Run a file as a module of its own name, which no other file can take."""
    if not file.is_file():
        raise ModelError(f"the file {file} does not exist.")
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:12]
    name = f"fiftyone_sfam_registered_{digest}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles of what the file defines look the module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ModelError(f"{file} failed to import ({describe(error)}).") from error
    return module


def _import_module(name: str, python_path: Sequence[Path]) -> ModuleType:
    """Import a module, and make sure that it is the one in the owner's folders."""
    _refuse_shadowed(name.partition(".")[0], python_path)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module may be there and lack something itself.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ModelError(
                f"there is no module {name!r}; install it, add its folder to "
                "python_path, or name the file as path/to/file.py:name."
            ) from error
        raise ModelError(
            f"the module {name!r} failed to import ({describe(error)})."
        ) from error
    except Exception as error:
        raise ModelError(
            f"the module {name!r} failed to import ({describe(error)})."
        ) from error


def _refuse_shadowed(root: str, python_path: Sequence[Path]) -> None:
    """Refuse a module of ``python_path`` in whose place another would be imported."""
    own = PathFinder.find_spec(root, [str(folder) for folder in python_path])
    if own is None or own.origin is None:
        return
    taken = sys.modules.get(root)
    spec = getattr(taken, "__spec__", None) if taken else importlib.util.find_spec(root)
    origin = getattr(spec, "origin", None)
    if origin != own.origin:
        raise ModelError(
            f"the module {root!r} in python_path is hidden by another of that name "
            f"({origin}); rename it, or name the file as path/to/file.py:name."
        )


def describe(error: BaseException) -> str:
    """Return an error's type and first line, without a final full stop."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def tapped(network: nn.Module, layer: str | None) -> tuple[nn.Module, str | None]:
    """Return a network with a module whose output is the requested tensor."""
    if layer is None:
        return network, None
    name = layer.removeprefix("<")
    if name not in dict(network.named_modules()) or not name:
        raise ModelError(
            f"the network {type(network).__name__} has no layer {name!r} to take the "
            "embedding from."
        )
    if name == layer:
        return network, layer
    *way, last = name.split(".")
    root = parent = _shallow_copy(network)
    for part in way:
        child = _shallow_copy(parent.get_submodule(part))
        parent._modules[part] = child
        parent = child
    inner = parent.get_submodule(last)
    parent._modules[last] = nn.Sequential(
        OrderedDict([("input", nn.Identity()), ("layer", inner)])
    )
    return root, f"{name}.input"


def _shallow_copy(module: nn.Module) -> nn.Module:
    """Copy a module but share its parameters, buffers and submodules."""
    duplicate = copy.copy(module)
    duplicate._modules = dict(module._modules)
    return duplicate
