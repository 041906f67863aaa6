"""The embedding in what a network returns, and the branches that have computed it.

Networks return tensors, sequences, mappings, named tuples and data classes such as
transformers' ``ModelOutput``. Where one of their entries must be the embedding it is
taken without being named; otherwise the message lists the entries.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fiftyone_sfam.errors import ModelError

EmbeddingKey = str | int | Sequence[str | int]
"""Key or index of an entry, or several of them, which are concatenated."""

# Entries of mappings that are the embedding, the first that there is.
NAMES = ("image_embeds", "pooler_output", "embedding", "embeddings")
TOKENS = "last_hidden_state"
# Most parts of an image that part features are taken to have.
_MOST_PARTS = 32
# Least length of a tuple of equal shapes that is taken for branches: of two, the one
# may be the other before a normalization.
_LEAST_BRANCHES = 3


class OutputError(ModelError):
    """A network that returned no embeddings for a batch; it may do so for others."""


@dataclass(frozen=True)
class Branch:
    """The part of an embedding that one branch of a network computes.

    Attributes
    ----------
    name : str
        Key or index of the branch in the network's output, or ``"part 0"``, ... .
    start, stop, step : int
        Its places in the embedding, as those of a ``slice``.
    """

    name: str
    start: int
    stop: int
    step: int = 1

    @property
    def places(self) -> slice:
        """Its places in the embedding."""
        return slice(self.start, self.stop, self.step)


def embeddings_of(
    output: Any,
    batch: int,
    key: EmbeddingKey | None,
    model: str,
    *,
    has_class_token: bool = False,
) -> tuple[Tensor, tuple[Branch, ...]]:
    """Return the embeddings (B, D) in a network's output, and their branches.

    ``has_class_token`` says whether the first token of a sequence is a class token.
    """
    if key is None:
        chosen = _unnamed(output, batch, has_class_token)
        if chosen is None:
            raise OutputError(
                f"model '{model}' returned {described(output)}; say with embedding=... "
                "which entry is the embedding."
            )
    elif isinstance(key, (str, int)):
        entry = _entry(output, key, model)
        chosen = _unnamed(entry, batch, has_class_token)
        if chosen is None:
            raise OutputError(
                f"the entry {key!r} in the output of model '{model}' is "
                f"{described(entry)}; a tensor, or branches of one shape are needed."
            )
    else:
        chosen = {str(name): _entry(output, name, model) for name in key}
    if isinstance(chosen, Tensor):
        return _matrix(chosen, batch, model), _parts(chosen)
    matrices = {}
    for name, entry in chosen.items():
        if not isinstance(entry, Tensor):
            raise OutputError(
                f"the entry {name!r} in the output of model '{model}' is "
                f"{described(entry)}; a tensor is needed."
            )
        matrices[name] = _matrix(entry, batch, model)
    ends = [0]
    for matrix in matrices.values():
        ends.append(ends[-1] + matrix.shape[1])
    branches = tuple(map(Branch, matrices, ends, ends[1:]))
    return torch.cat(list(matrices.values()), 1), branches


def described(output: Any) -> str:
    """Describe a network's output for a message."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, (tuple, list)) and not hasattr(output, "_fields"):
        items = [f"{index}: {described(item)}" for index, item in enumerate(output)]
        return f"a {type(output).__name__} of " + ", ".join(items)
    entries = _entries(output)
    if entries is not None:
        kind = type(output).__name__
        start = "a mapping of" if isinstance(output, Mapping) else f"{kind} with"
        items = [f"{key!r}: {described(value)}" for key, value in entries.items()]
        return f"{start} {', '.join(items)}"
    return type(output).__name__


def _entries(output: Any) -> Mapping[Any, Any] | None:
    """Return the named entries of an output, if it has any."""
    if isinstance(output, Mapping):
        return output
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        names = [field.name for field in dataclasses.fields(output)]
        return {name: getattr(output, name) for name in names}
    return None


def _entry(output: Any, key: str | int, model: str) -> Any:
    """Return an entry by its key or index."""
    entries = _entries(output)
    try:
        if isinstance(output, Tensor):
            # Its entries are images of the batch.
            raise TypeError("a tensor has no entries")
        if entries is not None and key in entries:
            return entries[key]
        return output[key]
    except (KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"the output of model '{model}' has no entry {key!r}; it is "
            f"{described(output)}."
        ) from error


def _unnamed(
    output: Any, batch: int, has_class_token: bool
) -> Tensor | dict[str, Any] | None:
    """Return the entry that must be the embedding, or all branches, or None."""
    if isinstance(output, Tensor):
        return output
    entries = _entries(output)
    if entries is not None:
        for name in NAMES:
            if entries.get(name) is not None:
                return _unnamed(entries[name], batch, has_class_token)
        tokens = entries.get(TOKENS)
        if has_class_token and isinstance(tokens, Tensor) and tokens.ndim == 3:
            return tokens[:, 0]
    if isinstance(output, (tuple, list)):
        return _from_sequence(output, batch, has_class_token)
    return None


def _from_sequence(
    output: Sequence[Any], batch: int, has_class_token: bool
) -> Tensor | dict[str, Any] | None:
    """Return the only embedding in a sequence, or all of them if they are branches."""
    present = {str(i): item for i, item in enumerate(output) if item is not None}
    if len(present) == 1:
        return _unnamed(next(iter(present.values())), batch, has_class_token)
    usable = {name: item for name, item in present.items() if _is_usable(item, batch)}
    others = [item for name, item in present.items() if name not in usable]
    # A number per image may be a norm, a number per batch a loss.
    if not all(isinstance(item, Tensor) and item.ndim <= 2 for item in others):
        return None
    if len(usable) == 1:
        return next(iter(usable.values()))
    shapes = {tuple(item.shape) for item in usable.values()}
    least = 2 if isinstance(output, list) else _LEAST_BRANCHES
    if others or len(usable) < least or len(shapes) > 1:
        return None
    (shape,) = shapes
    return usable if math.prod(shape[2:]) == 1 else None


def _is_usable(item: Any, batch: int) -> bool:
    """Return whether an entry has several numbers for each image."""
    return (
        isinstance(item, Tensor)
        and item.is_floating_point()
        and item.ndim >= 2
        and len(item) == batch
        and item.numel() > batch
    )


def _matrix(output: Tensor, batch: int, model: str) -> Tensor:
    """Return a tensor as (B, D)."""
    matrix = output.flatten(1) if output.ndim > 2 else output
    if matrix.ndim != 2 or len(matrix) != batch:
        raise OutputError(
            f"model '{model}' returned shape {tuple(matrix.shape)} for a batch of "
            f"{batch}; (batch, embedding size) is needed."
        )
    return matrix


def _parts(output: Tensor) -> tuple[Branch, ...]:
    """Return the branches of part features (B, C, parts) or (B, C, parts, 1)."""
    shape = tuple(output.shape)
    if len(shape) not in (3, 4) or math.prod(shape[3:]) > 1:
        return ()
    channels, count = shape[1:3]
    if not 1 < count <= min(_MOST_PARTS, channels - 1):
        return ()
    size = channels * count
    return tuple(Branch(f"part {i}", i, size, count) for i in range(count))
