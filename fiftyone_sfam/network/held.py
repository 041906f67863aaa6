"""Hold constant what a head computes from the image to scale and weight its values.

A head that divides by something it computes from its own input, as LayerNorm does, has
a derivative that vanishes along its input, and every evidence map would be empty. Such
a head is therefore replaced by its affine stand-in at the image: each scale, attention
weight and gate keeps the value that it has there. The head's output does not change,
up to rounding, but its derivative does::

    e = J A + b,    evidence = sum_c (J^T e_g / Z) * A,    remainder = <b, e_g> / Z

==============================================  ===================================
held                                            as
==============================================  ===================================
LayerNorm, GroupNorm, RMSNorm, InstanceNorm     the standard deviation
division by a value that depends on the image   the divisor, say a length
softmax, scaled dot-product attention           the weights
GELU, SiLU, Hardswish, Mish, ELU, tanh          the gate ``act(x) / x``
cosine similarity                               both lengths
product of two values                           the smaller one (squeeze-and-
                                                excitation), or of two of one size what
                                                an activation returned; else half of
                                                each
matrix product of two values                    the gate, or the first factor
kernels, weights and sampling grids             all of it
==============================================  ===================================

ReLU, PReLU and max pooling are piecewise linear and stay as they are. This module is
derived from the definitions of the operations; it follows no propagation package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from fiftyone_sfam.network.held_rules import RULES, flat, is_live


class HeldHead(TorchFunctionMode):
    """Run torch functions by the affine stand-ins of their values at the image.

    Values that depend on the image are those that require a gradient, so the network's
    parameters must not.

    Attributes
    ----------
    count : int
        How many values have been held constant. If it is 0, the head was run as it is.
    count_inside : int
        How many of them are not divisors or factors of an embedding, such as its
        length.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.count_inside = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function by its rule, if it has one and its input needs it."""
        rule = RULES.get(getattr(func, "__name__", ""))
        kwargs = kwargs or {}
        if rule is None or not any(is_live(item) for item in flat(args, kwargs)):
            return func(*args, **kwargs)
        return rule(self, func, list(args), dict(kwargs))

    def held(self, tensor: Tensor, is_inside: bool = True) -> Tensor:
        """Return a value as a constant."""
        self.count += tensor.requires_grad
        self.count_inside += tensor.requires_grad and is_inside
        return tensor.detach()
