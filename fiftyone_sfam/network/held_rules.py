"""The affine stand-ins of torch functions, see :mod:`fiftyone_sfam.network.held`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from fiftyone_sfam.network.held import HeldHead

Rule = Callable[["HeldHead", Callable[..., Any], list[Any], dict[str, Any]], Any]

# Slope at 0 of activations that are 0 there.
SLOPES = {
    "gelu": 0.5,
    "silu": 0.5,
    "hardswish": 0.5,
    "mish": 0.6,
    "elu": 1.0,
    "celu": 1.0,
    "selu": 1.0507009873554805,
    "tanh": 1.0,
    "softsign": 1.0,
}
# Values of which the quotient ``act(x) / x`` would be rounding.
_ZERO = 1e-6
# fmt: off
# Functions whose results are gates where they multiply another value: activations,
ACTIVATIONS = [
    "erf", "sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_", "relu", "relu_",
    "relu6", "hardtanh", "hardtanh_", "exp", "exp_", "softplus",
]
# and what normalization written by hand scales by.
_SCALES = [
    "rsqrt", "rsqrt_", "reciprocal", "reciprocal_", "__rdiv__", "__rtruediv__", "norm",
    "vector_norm", "linalg_norm", "linalg_vector_norm",
]
# Functions that return the values of their first argument in another shape.
_VIEWS = [
    "view", "reshape", "view_as", "reshape_as", "permute", "transpose", "swapaxes",
    "movedim", "expand", "expand_as", "unsqueeze", "unsqueeze_", "squeeze",
    "squeeze_", "flatten", "unflatten", "chunk", "split", "unbind", "narrow",
    "select", "__getitem__", "contiguous", "clone", "to", "float", "type_as",
    "dropout", "repeat", "repeat_interleave", "pow", "sqrt", "clamp", "clamp_min",
]
# fmt: on


# --------------------------------------------------------------------------------------
# Values
# --------------------------------------------------------------------------------------


def flat(args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Any]:
    """Iterate over arguments, and over the items of those that are sequences."""
    for item in (*args, *kwargs.values()):
        if isinstance(item, (tuple, list)):
            yield from item
        else:
            yield item


def is_live(value: Any) -> TypeGuard[Tensor]:
    """Return whether a value depends on the image."""
    return isinstance(value, Tensor) and value.requires_grad


def _is_gate(value: Any) -> bool:
    return getattr(value, "_is_sfam_gate", False)


def _as_gate(result: Any) -> Any:
    """Mark the value of an activation."""
    for tensor in result if isinstance(result, (tuple, list)) else (result,):
        if isinstance(tensor, Tensor):
            tensor._is_sfam_gate = True  # type: ignore[attr-defined]
    return result


def _bound(
    names: str, args: Sequence[Any], kwargs: dict[str, Any], **defaults: Any
) -> dict[str, Any]:
    """Return a function's arguments by their names."""
    return {**defaults, **dict(zip(names.split(), args, strict=False)), **kwargs}


def _take(
    args: list[Any], kwargs: dict[str, Any], place: int, name: str
) -> Tensor | None:
    """Return an argument by its place or its name."""
    value = args[place] if place < len(args) else kwargs.get(name)
    return value if isinstance(value, Tensor) else None


def _put(
    args: list[Any], kwargs: dict[str, Any], place: int, name: str, value: Tensor
) -> None:
    """Replace an argument."""
    if place < len(args):
        args[place] = value
    else:
        kwargs[name] = value


# --------------------------------------------------------------------------------------
# Normalization
# --------------------------------------------------------------------------------------


def _standardized(
    head: HeldHead, x: Tensor, dims: tuple[int, ...], eps: float, centered: bool = True
) -> Tensor:
    """Divide by the standard deviation, held constant; the mean stays linear."""
    if torch.finfo(x.dtype).bits < 32:
        x = x.float()
    if centered:
        x = x - x.mean(dims, keepdim=True)
    return x * (head.held(x).square().mean(dims, keepdim=True) + eps).rsqrt()


def _scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Apply a normalization's weight and bias."""
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _typed(y: Tensor, x: Tensor) -> Tensor:
    """Return a normalized value in the type in which torch would."""
    return y if torch.is_autocast_enabled(x.device.type) else y.to(x.dtype)


def _layer_norm(
    head: HeldHead, _func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Tensor:
    given = _bound(
        "input normalized_shape weight bias eps",
        args[:5],
        kwargs,
        weight=None,
        bias=None,
        eps=1e-5,
    )
    x = given["input"]
    dims = tuple(range(-len(given["normalized_shape"]), 0))
    y = _standardized(head, x, dims, given["eps"])
    return _typed(_scaled(y, given["weight"], given["bias"]), x)


def _rms_norm(
    head: HeldHead, _func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Tensor:
    given = _bound(
        "input normalized_shape weight eps", args, kwargs, weight=None, eps=None
    )
    x = given["input"]
    eps = torch.finfo(x.dtype).eps if given["eps"] is None else given["eps"]
    dims = tuple(range(-len(given["normalized_shape"]), 0))
    y = _standardized(head, x, dims, eps, centered=False)
    return _typed(_scaled(y, given["weight"], None), x)


def _group_norm(
    head: HeldHead, _func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Tensor:
    given = _bound(
        "input num_groups weight bias eps",
        args[:5],
        kwargs,
        weight=None,
        bias=None,
        eps=1e-5,
    )
    return _by_groups(head, given, given["num_groups"])


def _instance_norm(
    head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    names = (
        "input running_mean running_var weight bias use_input_stats momentum eps"
        if func is F.instance_norm
        else "input weight bias running_mean running_var use_input_stats momentum eps"
    )
    given = _bound(
        names,
        args[:8],
        kwargs,
        weight=None,
        bias=None,
        use_input_stats=True,
        eps=1e-5,
    )
    if not given["use_input_stats"]:
        return func(*args, **kwargs)
    return _by_groups(head, given, given["input"].shape[1])


def _by_groups(head: HeldHead, given: dict[str, Any], groups: int) -> Tensor:
    """Normalize each group of channels over its channels and positions."""
    x = given["input"]
    y = _standardized(head, x.reshape(len(x), groups, -1), (-1,), given["eps"])
    y = y.reshape(x.shape)
    shape = (1, -1, *[1] * (x.ndim - 2))
    parameters = (
        None if given[name] is None else given[name].reshape(shape)
        for name in ("weight", "bias")
    )
    return _typed(_scaled(y, *parameters), x)


def _normalize(
    head: HeldHead, _func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Tensor:
    given = _bound("input p dim eps", args, kwargs, p=2.0, dim=1, eps=1e-12)
    x = given["input"]
    length = head.held(x, x.ndim > 2).norm(given["p"], given["dim"], keepdim=True)
    return x / length.clamp_min(given["eps"])


# --------------------------------------------------------------------------------------
# Attention
# --------------------------------------------------------------------------------------


def _whole(
    head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Tensor:
    """Hold the whole result."""
    return head.held(func(*args, **kwargs))


def _attention(
    head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Hold queries and keys, of which the attention weights are made."""
    for place, name in ((0, "query"), (1, "key"), (3, "attn_mask")):
        tensor = _take(args, kwargs, place, name)
        if tensor is not None and (place < 2 or is_live(tensor)):
            _put(args, kwargs, place, name, head.held(tensor))
    # The other implementations cannot be differentiated twice, which ``jvp`` needs.
    with sdpa_kernel(SDPBackend.MATH):
        return func(*args, **kwargs)


# --------------------------------------------------------------------------------------
# Gates
# --------------------------------------------------------------------------------------


def _smooth_gate(
    head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Tensor:
    """Hold ``act(x) / x``; an activation in place stays in place."""
    name = func.__name__
    x = args.pop(0) if args else kwargs.pop("input")
    values = head.held(x, x.ndim > 2)
    output = func(values.clone(), *args, **kwargs)
    small = values.abs() < _ZERO
    slope = torch.full_like(values, SLOPES[name.rstrip("_")])
    gate = torch.where(small, slope, output / torch.where(small, slope, values))
    inplace = name.endswith("_") or kwargs.get("inplace", False)
    return _as_gate(x.mul_(gate) if inplace else x * gate)


def _mark(
    _head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Mark the result as a gate."""
    return _as_gate(func(*args, **kwargs))


def _view(
    _head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Keep the mark of a gate whose shape changes."""
    result = func(*args, **kwargs)
    first = args[0] if args else kwargs.get("input")
    return _as_gate(result) if _is_gate(first) else result


def _shifted(
    _head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Keep the mark of a gate that constants are added to or multiplied with."""
    result = func(*args, **kwargs)
    live = [item for item in flat(args, kwargs) if is_live(item)]
    return _as_gate(result) if all(map(_is_gate, live)) else result


def _cosine_similarity(
    head: HeldHead, _func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Tensor:
    """Hold both lengths."""
    given = _bound("x1 x2 dim eps", args, kwargs, dim=1, eps=1e-8)
    dim, eps = given["dim"], given["eps"]
    factors = []
    for item in (given["x1"], given["x2"]):
        length = (head.held(item) if is_live(item) else item).norm(2, dim, keepdim=True)
        factors.append(item / length.clamp_min(eps))
    first, second = factors
    if is_live(first) and is_live(second):
        halves = first * head.held(second), head.held(first) * second
        return (halves[0] + halves[1]).sum(dim) / 2
    return (first * second).sum(dim)


def _glu(
    head: HeldHead, _func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Tensor:
    given = _bound("input dim", args, kwargs, dim=-1)
    values, gate = given["input"].chunk(2, given["dim"])
    return values * head.held(gate.sigmoid())


def _product(
    head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Hold the gate in a product of two values."""
    name = "input" if "input" in kwargs else "other"
    first, second = args[0], args[1] if len(args) > 1 else kwargs[name]
    if not (is_live(first) and is_live(second)):
        return _shifted(head, func, args, kwargs)
    gate = _gate_of(first, second)
    inside = max(first.ndim, second.ndim) > 2
    if func.__name__ in ("mul_", "__imul__"):
        # In place, the second one is the gate, as in ``x.mul_(gate)``.
        return func(first, head.held(second, inside))
    if gate is None:
        halves = first * head.held(second, inside), head.held(first, inside) * second
        return sum(halves) / 2
    if gate == 1:
        return first * head.held(second, inside)
    return head.held(first, inside) * second


def _gate_of(first: Tensor, second: Tensor) -> int | None:
    """Return which of two factors is the gate, 0 or 1, or None."""
    if first.numel() != second.numel():
        return int(second.numel() < first.numel())
    gates = _is_gate(first), _is_gate(second)
    return gates.index(True) if gates[0] != gates[1] else None


def _addcmul(
    head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    if len(args) == 3 and is_live(args[1]) and is_live(args[2]):
        gate = _gate_of(args[1], args[2])
        place = 2 if gate is None else 1 + gate
        args[place] = head.held(args[place])
    return func(*args, **kwargs)


def _quotient(
    head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Hold the divisor."""
    divisor = _take(args, kwargs, 1, "other")
    if not is_live(divisor):
        return _shifted(head, func, args, kwargs)
    if not is_live(args[0]):
        return _as_gate(func(*args, **kwargs))
    _put(args, kwargs, 1, "other", head.held(divisor, args[0].ndim > 2))
    return func(*args, **kwargs)


def _matrix_product(
    head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Hold the first of two factors, or the one that is a gate."""
    places = [place for place, item in enumerate(args) if is_live(item)][-2:]
    if func.__name__ in ("baddbmm", "addmm") and places[:1] == [0]:
        places = places[1:]
    if len(places) == 2:
        gates = [_is_gate(args[place]) for place in places]
        place = places[1] if gates == [False, True] else places[0]
        args[place] = head.held(args[place])
    return func(*args, **kwargs)


def _einsum(
    head: HeldHead, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    live = [place for place, item in enumerate(operands) if is_live(item)]
    marked = [place for place in live if not _is_gate(operands[place])]
    value = (marked or live)[-1]
    for place in live:
        if place != value:
            operands[place] = head.held(operands[place])
    return func(equation, *operands, **kwargs)


def _argument(place: int, name: str) -> Rule:
    """Make a rule that holds one argument."""

    def rule(
        head: HeldHead,
        func: Callable[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        tensor = _take(args, kwargs, place, name)
        if is_live(tensor):
            _put(args, kwargs, place, name, head.held(tensor))
        return func(*args, **kwargs)

    return rule


RULES: dict[str, Rule] = {
    **dict.fromkeys(_VIEWS, _view),
    **dict.fromkeys([*ACTIVATIONS, *_SCALES], _mark),
    **dict.fromkeys(SLOPES, _smooth_gate),
    **dict.fromkeys((f"{name}_" for name in SLOPES), _smooth_gate),
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "normalize": _normalize,
    "softmax": _whole,
    "softmin": _whole,
    "gumbel_softmax": _whole,
    "scaled_dot_product_attention": _attention,
    "cosine_similarity": _cosine_similarity,
    **dict.fromkeys(
        (
            *("add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_"),
            *("__sub__", "__rsub__", "rsub", "subtract", "__isub__"),
            *("cat", "concat", "stack"),
        ),
        _shifted,
    ),
    "multi_head_attention_forward": _attention,
    "glu": _glu,
    **dict.fromkeys(
        ["mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"], _product
    ),
    "addcmul": _addcmul,
    "addcmul_": _addcmul,
    "lerp": _argument(2, "weight"),
    **dict.fromkeys(
        [
            "div",
            "div_",
            "divide",
            "true_divide",
            "__div__",
            "__truediv__",
            "__itruediv__",
            "__idiv__",
        ],
        _quotient,
    ),
    **dict.fromkeys(
        (
            *("matmul", "__matmul__", "linalg_matmul", "bmm", "mm", "mv", "baddbmm"),
            *("addmm", "outer", "ger", "inner", "dot", "tensordot", "kron"),
        ),
        _matrix_product,
    ),
    "einsum": _einsum,
    "linear": _argument(1, "weight"),
    **dict.fromkeys(
        ["conv1d", "conv2d", "conv3d", "conv_transpose2d"], _argument(1, "weight")
    ),
    "grid_sample": _argument(1, "grid"),
}
