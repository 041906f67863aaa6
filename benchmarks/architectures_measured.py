"""One network at its layer: whether its maps add up, by an independent remainder.

The remainder of a held head is ``<b, e_g> / Z``, where ``b`` is the head's value at
``A = 0``. To compute ``b``, everything that is held is recorded at the image and put
back while the head runs on zeros. ReLU, max pooling and other functions that the head
leaves as they are have no constant slope; they are replaced by their tangents at the
image, ``f(x) + df (0 - x)``, in forward mode.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from architectures_trained import as_trained, picture
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.held import HeldHead
from fiftyone_sfam.network.layers import map_of, replaced
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.network.state import constant_parameters, hooked

SUM_BOUND = 1e-4
FORWARD_BOUND = 1e-5
SINGLE_BOUND = 1e-5
# In float32, rounding adds up over the layers of some networks, and a ReLU within
# rounding of its kink may turn with the batch size, so that maps change by more.
DOUBLE_BOUND = 1e-10
# Least relative difference of the embeddings of two images.
LEAST_DIFFERENCE = 0.01
# Least share of an image's similarity with itself that map and prefix tokens carry.
LEAST_SHARE = 0.1
# Move of a map that needs no larger images, and the side of maps that may need them.
CLEAR_MOVE = 0.1
COARSE = 4

# Functions that a held head may leave as they are, and that are not linear.
CURVED = {
    *("relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "relu6", "rrelu"),
    *("hardtanh", "hardtanh_", "threshold", "threshold_", "abs", "softplus"),
    *("sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_", "exp", "log", "rsqrt"),
    *("max_pool1d", "max_pool2d", "adaptive_max_pool2d", "amax", "max", "maximum"),
    *("clamp", "clamp_", "clamp_min", "clamp_min_", "pow", "__pow__", "sqrt", "square"),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, and how it is run.

    Attributes
    ----------
    library, name : str
        Where it is from, and its name there.
    build : callable
        Makes the network.
    size : tuple of int
        Height and width of its images.
    options : dict
        Arguments of :class:`EmbeddingModel`.
    refused : str
        Part of the message if the network cannot be explained.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    size: tuple[int, int] = (64, 64)
    options: tuple[tuple[str, Any], ...] = ()
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured for a network.

    Attributes
    ----------
    library, name : str
        Its case.
    layer, layout : str
        The layer that was chosen, and its arrangement.
    shape : tuple of int
        Channels, height and width of the map.
    prefix_tokens : int
        Number of tokens without a place on the image.
    carries_all : bool
        Whether the whole embedding is computed from the layer.
    score, evidence, prefix, remainder : float
        Cosine of two different images, and its parts for the first one: sums over the
        positions and the prefix tokens, and the independent remainder.
    sum_error : float
        Largest absolute difference of the score and the sum of its parts, over both
        images, relative to the larger of 1 and the sum of the absolute evidence.
    forward_error : float
        Relative difference of the held head's embeddings to the network's.
    single_error : float
        Relative difference of embeddings and maps of a batch to those of one image.
    double_error : float
        The larger of the two in float64, if one of them is above its bound in float32.
    difference : float
        Relative difference of the two embeddings.
    share_before, share : float
        Share of an image's similarity with itself on the map, without and with a held
        head.
    moves : tuple of float
        How far the center of the map moves, in widths and heights of the map, when a
        patch moves by half the image to the right, and down.
    seconds : float
        Time that it took.
    refusal : str
        The message if it was refused.
    broken : tuple of str
        Bounds that do not hold.
    """

    library: str
    name: str
    layer: str = ""
    layout: str = ""
    shape: tuple[int, ...] = ()
    prefix_tokens: int = 0
    carries_all: bool = False
    score: float = float("nan")
    evidence: float = float("nan")
    prefix: float = float("nan")
    remainder: float = float("nan")
    sum_error: float = float("nan")
    forward_error: float = float("nan")
    single_error: float = float("nan")
    double_error: float = float("nan")
    difference: float = float("nan")
    share_before: float = float("nan")
    share: float = float("nan")
    moves: tuple[float, float] = (float("nan"), float("nan"))
    seconds: float = 0.0
    refusal: str = ""
    broken: tuple[str, ...] = ()


def measured(case: Case) -> Row:
    """Make a case's network, explain a pair of images, and check the result."""
    start = time.perf_counter()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images = torch.cat([picture(*case.size, seed) for seed in range(3)])
    network = as_trained(case.build(), images)
    model = EmbeddingModel(network, nn.Identity(), name=case.name, **dict(case.options))
    try:
        values = _values(model, images)
    except SfamError as error:
        refusal = str(error)
        accepted = bool(case.refused) and case.refused in refusal
        fault = "refused"
    except Exception as error:  # noqa: BLE001
        # The other networks are still to be checked.
        refusal = f"{type(error).__name__}: {error}"
        accepted, fault = False, "failed"
    else:
        accepted = True
        refusal = ""
    if refusal:
        return Row(
            library=case.library,
            name=case.name,
            seconds=time.perf_counter() - start,
            refusal=refusal,
            broken=() if accepted else (fault,),
        )
    row = Row(
        library=case.library,
        name=case.name,
        seconds=time.perf_counter() - start,
        **values,
    )
    broken = broken_bounds(row, case)
    return Row(**{**vars(row), "broken": broken})


def broken_bounds(row: Row, case: Case) -> tuple[str, ...]:
    """Name the bounds that a row does not keep."""
    # A map of one column does not tell where things are across it.
    axes = zip(row.moves[::-1], row.shape[1:], strict=True)
    is_moved = all(step > 0 for step, size in axes if size > 1)
    is_rounding = row.double_error <= DOUBLE_BOUND
    is_forward = row.forward_error <= FORWARD_BOUND or is_rounding
    is_single = row.single_error <= SINGLE_BOUND or is_rounding
    checks = (
        (not case.refused, "not refused"),
        (row.difference >= LEAST_DIFFERENCE, "the embeddings are the same"),
        (row.sum_error <= SUM_BOUND, "the parts do not add up to the score"),
        (is_forward, "the held head has another value"),
        (is_single, "a batch and a single image differ"),
        (abs(row.share) >= LEAST_SHARE, "the map carries nothing"),
        (is_moved, "the map does not move with a patch"),
    )
    return tuple(text for holds, text in checks if not holds)


def _values(model: EmbeddingModel, images: Tensor) -> dict[str, Any]:
    info = model.find_layer(images)
    plain = plain_of(model, images)
    unit = F.normalize(plain.double(), dim=1)
    linearized = model.linearize(images)
    pair = torch.tensor([0, 1])
    found = attribute(linearized, pair, linearized.embedding[[1, 0]])
    cotangents = (
        linearized.embedding[[1, 0]] / linearized.embedding[:2].norm(dim=1).prod()
    )
    prefix = linearized.prefix_evidence(pair, cotangents)
    records = ReplayedHead()
    held = run_head(model, images, info, records)
    constant = run_head(model, images, info, ReplayedHead(records), at_zero=True)
    remainder = (constant.output[:2].detach().double() * cotangents.double()).sum(1)
    score = (unit[0] * unit[1]).sum()
    total = found.evidence.double().sum((1, 2)) + prefix.double() + remainder
    size = found.evidence.abs().sum((1, 2)).clamp_min(1)
    own = attribute(linearized, torch.arange(3), linearized.embedding)
    single = _single_error(model, images)
    values: dict[str, Any] = {
        "layer": info.name,
        "layout": info.layout,
        "shape": info.shape,
        "prefix_tokens": info.prefix_tokens,
        "carries_all": model.carries_all(images, info.name),
        "score": float(score),
        "evidence": float(found.evidence[0].sum()),
        "prefix": float(prefix[0]),
        "remainder": float(remainder[0]),
        "sum_error": float(((total - score).abs() / size).max()),
        "forward_error": max(
            relative(values, plain) for values in (linearized.embedding, held.output)
        ),
        "single_error": single,
        "difference": float((plain[0] - plain[1]).norm() / plain[0].norm()),
        "share_before": plain_share(model, images, info),
        "share": float(own.evidence.sum((1, 2)).median()),
        "moves": _moves_at_sizes(model, info, (images.shape[2], images.shape[3])),
    }
    if single > SINGLE_BOUND or values["forward_error"] > FORWARD_BOUND:
        model.network.double()
        images = images.double()
        values["double_error"] = max(
            _single_error(model, images),
            relative(model.linearize(images).embedding, plain_of(model, images)),
        )
    return values


def plain_of(model: EmbeddingModel, images: Tensor) -> Tensor:
    """Run the network as it is, without the conversion of ``embed`` to float32."""
    with model._runner.ready(images), torch.no_grad():
        return model._runner.forward(images)


def relative(values: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    return float((values - expected).abs().max() / expected.abs().max())


def _single_error(model: EmbeddingModel, images: Tensor) -> float:
    """Compare a batch's first two embeddings and maps with those of single images."""
    batch = model.linearize(images)
    pair = torch.tensor([0, 1])
    together = attribute(batch, pair, batch.embedding[[1, 0]])
    heads = [model.linearize(image[None]) for image in images[:2]]
    embeddings = torch.cat([head.embedding for head in heads])
    errors = [relative(batch.embedding[:2], embeddings)]
    for place, head in enumerate(heads):
        alone = attribute(head, torch.tensor([0]), embeddings[[1 - place]])
        errors += [
            relative(getattr(together, kind)[place], getattr(alone, kind)[0])
            for kind in ("evidence", "sfam")
        ]
    return max(errors)


def plain_share(model: EmbeddingModel, images: Tensor, info: LayerInfo) -> float:
    """Return the share of the map by gradient times input, with nothing held."""
    plain = run_head(model, images, info, nullcontext())
    if not plain.output.requires_grad:
        return 0.0
    output = plain.output.detach()
    directions = output / output.square().sum(1, keepdim=True)
    gradients = torch.autograd.grad(
        plain.output, plain.leaves, directions, materialize_grads=True
    )
    total = torch.zeros(len(images))
    for gradient, leaf in zip(gradients, plain.leaves, strict=True):
        products, _ = info.maps(gradient * leaf.detach())
        # The blocks of a batch of several images each.
        total += products.sum((1, 2, 3)).unflatten(0, (-1, len(images))).sum(0)
    return float(total.median())


# --------------------------------------------------------------------------------------
# The head, recorded and replayed
# --------------------------------------------------------------------------------------


class ReplayedHead(HeldHead):
    """Record what a head holds, or put it back in the same order.

    Parameters
    ----------
    records : ReplayedHead, optional
        Records of the head at an image; without them they are made.
    """

    def __init__(self, records: ReplayedHead | None = None) -> None:
        super().__init__()
        self.is_recording = records is None
        self.values: list[Any] = [] if records is None else records.values[::-1]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace functions that are not linear by their tangents."""
        if getattr(func, "__name__", "") in CURVED:
            func = functools.wraps(func)(functools.partial(self._tangent, func))
        return super().__torch_function__(func, types, args, kwargs)

    def held(self, tensor: Tensor, is_inside: bool = True) -> Tensor:
        """Return the value that was held at the image."""
        if self.is_recording:
            self.values.append(tensor.detach().clone())
            return super().held(tensor, is_inside)
        value: Tensor = self.values.pop()
        assert value.shape == tensor.shape, (value.shape, tensor.shape)
        return value

    def _tangent(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function, or its tangent at the recorded input."""
        places = [
            place
            for place, item in enumerate(args)
            if isinstance(item, Tensor) and item.requires_grad
        ]
        if not places:
            return func(*args, **kwargs)
        if self.is_recording:
            self.values.append([args[place].detach().clone() for place in places])
            return func(*args, **kwargs)
        known = self.values.pop()
        kwargs.pop("inplace", None)

        def at(*given: Tensor) -> Any:
            items = list(args)
            for place, item in zip(places, given, strict=True):
                items[place] = item.clone()
            result = func(*items, **kwargs)
            return result if isinstance(result, Tensor) else result[0]

        shifts = [args[place] - item for place, item in zip(places, known, strict=True)]
        with torch.no_grad():
            value, slope, *_ = torch.func.jvp(at, tuple(known), tuple(shifts))
        tangent = (value + slope).requires_grad_(True)
        if func.__name__.endswith("_") and not func.__name__.endswith("__"):
            return args[0].copy_(tangent)
        return tangent


@dataclass(frozen=True)
class HeadRun:
    """Outputs of a layer, one per run of it, and the embeddings computed from them."""

    leaves: list[Tensor]
    output: Tensor


def run_head(
    model: EmbeddingModel,
    images: Tensor,
    info: LayerInfo,
    head: AbstractContextManager[Any],
    at_zero: bool = False,
) -> HeadRun:
    """Run a network with a mode entered at a layer, perhaps on outputs of zeros."""
    runner = model._runner
    explained = {view.call for view in info.views} or {info.calls}
    leaves: list[Tensor] = []
    calls = 0

    def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal calls
        tensor = map_of(output)
        calls += tensor is not None
        if tensor is None or calls not in explained:
            return None
        torch.set_grad_enabled(True)
        if not leaves:
            stack.enter_context(head)
        leaves.append((tensor * (not at_zero)).detach().requires_grad_(True))
        return replaced(output, tensor, leaves[-1].clone())

    with (
        runner.ready(images),
        constant_parameters(model.network),
        torch.enable_grad(),
        hooked(runner.module(info.name), cut),
        ExitStack() as stack,
    ):
        output = runner.forward(images)
    return HeadRun(leaves, output)


# --------------------------------------------------------------------------------------
# Moving a patch
# --------------------------------------------------------------------------------------


def _moves_at_sizes(
    model: EmbeddingModel, info: LayerInfo, size: tuple[int, int]
) -> tuple[float, float]:
    """Move a patch, also in a larger image if each of few positions sees all of it."""
    steps = [moves(model, size)]
    if min(steps[0]) < CLEAR_MOVE and max(info.shape[1:]) <= COARSE:
        # Some networks take images of one size only.
        with suppress(SfamError):
            steps.append(moves(model, (4 * size[0], 4 * size[1])))
    return max(steps, key=min)


def moves(model: EmbeddingModel, size: tuple[int, int]) -> tuple[float, float]:
    """Move a patch in a gray image, and see how far the map's center moves.

    The map is that of the image compared with itself: the absolute evidence, the
    absolute contributions of all channels, or how much the patch changes these in the
    gray image, compared with the same embedding.
    """
    height, width = size
    side = height // 2, width // 2
    patch = 2 * picture(*side, 5)[0]
    images = torch.zeros(8, 3, height, width)
    middle = height // 4, width // 4
    corners = (
        (middle[0], 0),
        (middle[0], side[1]),
        (0, middle[1]),
        (side[0], middle[1]),
    )
    for image, (top, left) in zip(images[:4], corners, strict=True):
        image[:, top : top + side[0], left : left + side[1]] = patch
    head = model.linearize(images)
    own = head.embedding[:4] / head.embedding[:4].square().sum(1, keepdim=True)
    products = head.vjp(own.repeat(2, 1)) * head.feature_map
    products, gray = products.chunk(2)
    steps = []
    for maps in (
        products.sum(1).abs(),
        products.abs().sum(1),
        (products - gray).abs().sum(1),
    ):
        shares = maps / maps.sum((1, 2), keepdim=True)
        across = (shares.sum(1) * torch.linspace(0, 1, maps.shape[2])).sum(1)
        down = (shares.sum(2) * torch.linspace(0, 1, maps.shape[1])).sum(1)
        steps.append((float(across[1] - across[0]), float(down[3] - down[2])))
    return max(steps, key=min)
