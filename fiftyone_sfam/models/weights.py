"""Read weights without running code that a file may contain."""

from __future__ import annotations

# Only for the name of its exception: nothing here unpickles.
import pickle  # nosec B403
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fiftyone_sfam.data.text import counted, first_line
from fiftyone_sfam.errors import ModelError, SfamWarning

_SHOWN = 4
_SCALAR_TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
# First version of torch whose ``weights_only`` is safe.
_SAFE_TORCH = (2, 6)


def load_state_dict(
    path: str | Path, *, key: Sequence[str] = (), strip_prefix: str = ""
) -> dict[str, Tensor]:
    """Read a state dict from a checkpoint of torch or safetensors."""
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"the weights file {file} does not exist.")
    content = _read_safetensors(file) if _is_safetensors(file) else _read_torch(file)
    state = _state_dict(_nested(content, key, file), file)
    if strip_prefix:
        state = _stripped(state, strip_prefix, file)
    return {
        name: value.float() if value.dtype in (torch.half, torch.bfloat16) else value
        for name, value in state.items()
    }


def apply_state_dict(
    network: nn.Module,
    state: Mapping[str, Tensor],
    *,
    strict: bool = True,
    allow_missing: Sequence[str] = (),
    source: str = "the checkpoint",
) -> None:
    """Copy a state dict into a network; raise if it does not fit.

    Weights that the network has and the state dict has not are an error, unless a
    pattern in ``allow_missing`` matches their names. Weights that the network does not
    have are an error if ``strict``, and a warning otherwise.
    """
    wanted = {name: tuple(v.shape) for name, v in _tensors(network).items()}
    given = {name: tuple(v.shape) for name, v in state.items()}
    both = [name for name in wanted if name in given]
    reshaped = [
        f"{name} {given[name]} instead of {wanted[name]}"
        for name in both
        if given[name] != wanted[name]
    ]
    missing = _unset(network, both, [name for name in wanted if name not in given])
    missing = [
        name for name in missing if not any(fnmatch(name, p) for p in allow_missing)
    ]
    unexpected = [name for name in given if name not in wanted]
    problems = [_some("of another shape", reshaped), _some("missing", missing)]
    if strict or missing or reshaped or not both:
        problems.append(_some("unexpected", unexpected))
    text = "; ".join(problem for problem in problems if problem)
    if text:
        raise ModelError(
            f"the weights do not fit the network {type(network).__name__}: "
            f"{text}{_way_out(missing, strict or not both)}."
        )
    network.load_state_dict(dict(state), strict=False)
    if unexpected:
        warnings.warn(
            f"the network {type(network).__name__} does not use "
            f"{counted(len(unexpected), 'weight')} of {source} "
            f"({_listed(unexpected)}).",
            SfamWarning,
            stacklevel=2,
        )


def _way_out(missing: Sequence[str], strict: bool) -> str:
    """Return what to do about weights that do not fit."""
    if missing:
        return (
            "; correct weights_key or strip_prefix, build the network without the "
            "missing weights, or name those that may keep their initial values in "
            'allow_missing, such as ["classifier.*"]'
        )
    return '; "strict": false allows unexpected names' if strict else ""


# --------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------


def _is_safetensors(file: Path) -> bool:
    """Return whether a file's name is that of the safetensors format."""
    return file.suffix.lower() == ".safetensors"


def _read_safetensors(file: Path) -> Any:
    """Read a safetensors file."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ModelError(
            f"the weights file {file} needs the package safetensors; install it with "
            "`pip install 'fiftyone-sfam[safetensors]'`."
        ) from error
    try:
        return load_file(file, device="cpu")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"the weights file {file} is not a readable safetensors file "
            f"({first_line(error)}); save it again."
        ) from error


def _read_torch(file: Path) -> Any:
    """Read a checkpoint of ``torch.save`` with tensors and plain values only."""
    _check_torch(file, torch.__version__)
    try:
        # Only what numpy needs to build numbers: none of it runs code of the file.
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"the weights file {file} holds more than tensors and plain values, or is "
            "damaged, and was not loaded, because loading it could run code; save the "
            "network's state_dict() alone, or convert it to safetensors."
        ) from error
    # torch raises many types of errors for damaged archives.
    except Exception as error:
        raise ModelError(
            f"the weights file {file} is not a checkpoint that torch can read "
            f"({first_line(error)}); save the network's state_dict() again."
        ) from error


def _numpy_scalars() -> list[Any]:
    """Return what pickled scalars of numpy consist of, by all names that it has had.

    Checkpoints store them beside the tensors, such as an accuracy.
    """
    scalar = np.float64(0).__reduce__()[0]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *{type(np.dtype(name)) for name in _SCALAR_TYPES},
    ]


def _check_torch(file: Path, version: str) -> None:
    """Raise if this version of torch may run the code in a checkpoint."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < _SAFE_TORCH:
        raise ModelError(
            f"the weights file {file} was not loaded: with torch {version} a "
            "checkpoint can run code even if only weights are asked for "
            "(CVE-2025-32434); update torch to 2.6 or later, or convert the weights to "
            "safetensors."
        )


# --------------------------------------------------------------------------------------
# State dicts
# --------------------------------------------------------------------------------------


def _nested(content: Any, key: Sequence[str], file: Path) -> Any:
    """Follow the keys of a nested checkpoint."""
    for name in key:
        if not isinstance(content, Mapping) or name not in content:
            known = list(content) if isinstance(content, Mapping) else []
            raise ModelError(
                f"the weights file {file} has no entry {name!r}; it has "
                f"{_listed([repr(entry) for entry in known]) or 'no entries'}."
            )
        content = content[name]
    return content


def _state_dict(content: Any, file: Path) -> dict[str, Tensor]:
    """Return ``content`` as a state dict, or raise."""
    if not isinstance(content, Mapping):
        raise ModelError(
            f"the weights file {file} holds {type(content).__name__} where a state "
            "dict is needed; save the network's state_dict()."
        )
    inner = [
        repr(name) for name, value in content.items() if isinstance(value, Mapping)
    ]
    if inner:
        raise ModelError(
            f"the weights file {file} is nested; name the entry that holds the state "
            f"dict with weights_key, one of {_listed(inner)}."
        )
    others = [repr(n) for n, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        raise ModelError(
            f"the weights file {file} is not a state dict: "
            f"{_listed(others) + ' is not a tensor' if others else 'it is empty'}; "
            "save the network's state_dict()."
        )
    return {str(name): value for name, value in content.items()}


def _stripped(state: dict[str, Tensor], prefix: str, file: Path) -> dict[str, Tensor]:
    """Remove a prefix from the names that have it."""
    if not any(name.startswith(prefix) for name in state):
        raise ModelError(
            f"no name in the weights file {file} starts with strip_prefix {prefix!r}; "
            f"the first is {next(iter(state))!r}."
        )
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the entries of a network's state dict that are tensors."""
    return {n: v for n, v in network.state_dict().items() if isinstance(v, Tensor)}


def _unset(
    network: nn.Module, given: Sequence[str], missing: Sequence[str]
) -> list[str]:
    """Return the missing names whose values matter and have no other name."""
    tensors: dict[str, Tensor] = {
        **dict(network.named_parameters(remove_duplicate=False)),
        **dict(network.named_buffers(remove_duplicate=False)),
    }
    loaded = {id(tensors[name]) for name in given if name in tensors}
    return [
        name
        for name in missing
        if name.rpartition(".")[2] != "num_batches_tracked"
        and id(tensors.get(name)) not in loaded
    ]


def _some(label: str, names: Sequence[str]) -> str:
    """Return the number of names and the first of them as text."""
    return f"{len(names)} {label} ({_listed(names)})" if names else ""


def _listed(names: Sequence[str]) -> str:
    """List the first few names."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
