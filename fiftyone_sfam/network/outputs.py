"""What modules return: the map in it, the embedding in it, and words for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fiftyone_sfam.errors import ModelError


def map_of(output: Any) -> Tensor | None:
    """Return the tensor in a module's output, the first of a tuple or list."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (tuple, list)):
        return next((item for item in output if isinstance(item, Tensor)), None)
    return None


def replaced(output: Any, old: Tensor, new: Tensor) -> Any:
    """Return a module's output with one tensor replaced."""
    if output is old:
        return new
    items = [new if item is old else item for item in output]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*items)
    return type(output)(items)


def embeddings_of(output: Any, batch: int, key: str | int | None, model: str) -> Tensor:
    """Pick the embeddings from what a network returned."""
    if key is not None:
        try:
            if isinstance(output, Tensor):
                # Its entries are images of the batch.
                raise TypeError("a tensor has no entries")
            output = output[key]
        except (KeyError, IndexError, TypeError) as error:
            raise ModelError(
                f"the output of model '{model}' has no entry {key!r}; it is "
                f"{described(output)}."
            ) from error
    if not isinstance(output, Tensor):
        raise ModelError(
            f"model '{model}' returned {described(output)}; say with embedding=... "
            "which entry is the embedding."
        )
    output = output.flatten(1) if output.ndim > 2 else output
    if output.ndim != 2 or len(output) != batch:
        raise ModelError(
            f"model '{model}' returned shape {tuple(output.shape)} for a batch of "
            f"{batch}; (batch, embedding size) is needed."
        )
    return output


def described(output: Any) -> str:
    """Describe a network's output for a message."""
    if isinstance(output, Mapping):
        entries = [f"{key!r}: {described(value)}" for key, value in output.items()]
        return "a mapping of " + ", ".join(entries)
    if isinstance(output, (tuple, list)):
        entries = [f"{index}: {described(item)}" for index, item in enumerate(output)]
        return f"a {type(output).__name__} of " + ", ".join(entries)
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return type(output).__name__


def first_line(error: BaseException) -> str:
    """Return an error's first line without its final full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
