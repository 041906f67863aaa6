"""Networks that scale their embeddings to one length, as many face networks do.

The similarity divides by the embeddings' lengths anyway, and its normalizer ``Z`` is
held constant: differentiated, it would take away exactly the part of the gradient that
explains the similarity, so that the evidence of every pair would add up to zero. The
same holds for a division by the length inside the network. It is part of ``Z``, and is
held constant too.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

_NOTHING = 5e-3
# Operations that change the shape of what they are given, and nothing else.
_RESHAPING = re.compile(
    r"^(Unsafe)?(View|ReshapeAlias|Squeeze|Unsqueeze|Clone|Alias|ToCopy|T|Transpose|"
    r"Permute|Flatten|Slice|Select|Index)Backward\d*$"
)


def is_constant_length(anywhere: Tensor, lengthwise: Tensor) -> bool:
    """Tell from derivatives whether an embedding always has the same length."""
    limit = _NOTHING * anywhere.float().norm()
    return bool(lengthwise.float().norm() < limit)


def hold_length(output: Tensor) -> bool:
    """Hold the length constant by which a network divides its embedding at its end."""
    node: Any = output.grad_fn
    while node is not None:
        name = node.name()
        inputs = [function for function, _ in node.next_functions]
        if _RESHAPING.match(name):
            node = inputs[0]
        elif name.startswith(("DivBackward", "MulBackward")):
            live = [function for function in inputs if function is not None]
            if len(live) == 2:
                scale = _place_of_scale(node, len(output), name[0] == "D")
                if scale is None:
                    return False
                node.register_hook(_Without(scale))
                return True
            node = live[0] if live else None
        else:
            return False
    return False


def _place_of_scale(node: Any, images: int, divides: bool) -> int | None:
    """Tell which operand is one number per image, if one is."""
    if divides:
        return 1 if _is_scale(node._saved_other, images) else None
    found = [_is_scale(one, images) for one in (node._saved_self, node._saved_other)]
    return found.index(True) if sum(found) == 1 else None


def _is_scale(operand: Tensor, images: int) -> bool:
    """Tell whether an operand is one number per image, also where it is repeated."""
    if operand.numel() <= images:
        return True
    if len(operand) != images:
        return False
    rows = operand.reshape(images, -1)
    return bool((rows == rows[:, :1]).all())


class _Without:
    """Hook of a node that leaves out the gradient of one operand."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __call__(
        self,
        grad_inputs: tuple[Tensor | None, ...],
        _grad_outputs: tuple[Tensor, ...],
    ) -> tuple[Tensor | None, ...]:
        """Put zeros in its place."""
        return tuple(
            torch.zeros_like(one) if place == self._place and one is not None else one
            for place, one in enumerate(grad_inputs)
        )
