"""Direct contributions: what each attention layer writes into the class token.

The output of an attention layer at the class token is a sum over tokens, ``sum_j a_0j
v_j``, with the attention ``a_0j`` of the class token to token ``j`` and its value
``v_j``. What it adds to the residual stream reaches the embedding at the end of the
network through a linear map, up to what later layers compute of it::

    C(j) = sum over blocks l of M_l (a_0j v_j),    M_l = W (gamma / sigma) centered(W_O)

for a network that ends with LayerNorm and a linear layer. The MLPs, the biases and
what the tokens hold before the first block are in the remainder. ``M_l`` is the same
for all images up to one factor, ``1 / sigma``, so it is computed once per network, by
a backward pass for each dimension of the embedding in which later attention layers and
MLPs are cut off. Then one forward pass explains an image towards any number of
partners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.examine import examine
from fiftyone_sfam.network.heads import as_leaf
from fiftyone_sfam.network.held import HeldHead
from fiftyone_sfam.network.held_rules import ACTIVATIONS, SLOPES
from fiftyone_sfam.network.layouts import (
    MOST_PREFIX,
    LayerInfo,
    patched,
    seen_layer,
)
from fiftyone_sfam.network.runner import NetworkRunner, SplitNetwork
from fiftyone_sfam.network.state import constant_parameters

DIRECT = "direct"
"""What is given as ``layer`` for direct contributions."""

# Functions after which attention weights are still attention weights.
_KEEPS = {"dropout", "to", "type_as", "float", "contiguous", "clone"}
_CUT = {*ACTIVATIONS, *SLOPES, *(f"{name}_" for name in SLOPES)}
_PRODUCTS = {"mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"}
# Relative differences of two derivatives that are rounding: at least, and in units of
# the network's type.
_SAME, _SAME_UNITS = 1e-3, 8


@dataclass(frozen=True)
class Attended:
    """What an attention layer mixes into the class token."""

    weights: Tensor  # attention of the class token to each token, (B, heads, N)
    values: Tensor  # (B, heads, N, width of a head)
    rows: int  # number of tokens that the layer returns

    @property
    def written(self) -> Tensor:
        """What comes from each token, (B, heads * width, N)."""
        products = self.weights[..., None] * self.values
        return products.transpose(2, 3).flatten(1, 2)


class _AttentionTap(TorchFunctionMode):
    """See what attention layers mix, and cut the graph behind the class token.

    Attributes
    ----------
    seen : list of Attended
        What each attention layer mixes into the first token.
    added : list of Tensor or None
        Zeros that are added to it, (B, heads, rows, width of a head), where the graph
        begins: to all rows or to the first one.
    """

    def __init__(self, cut: Callable[[int, Attended], int]) -> None:
        super().__init__()
        self.seen: list[Attended] = []
        self.added: list[Tensor | None] = []
        self._rows_cut = cut
        self._is_cutting = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function; look at attention, and cut activations off."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            return self._fused(func, args, kwargs)
        if name == "multi_head_attention_forward":
            return self._multi_head(func, args, kwargs)
        result = func(*args, **kwargs)
        is_attention = getattr(args[0], "_sfam_attention", False) if args else False
        if (name == "softmax" and result.ndim == 4) or (
            name in _KEEPS and is_attention
        ):
            result._sfam_attention = True
        elif name in ("matmul", "__matmul__") and is_attention:
            return self._visit(args[0][:, :, 0], args[1], result)
        elif self._is_cutting and isinstance(result, Tensor):
            factors = args if name in _PRODUCTS else ()
            is_gated = any(getattr(item, "_sfam_cut", False) for item in factors)
            if result.requires_grad and (name in _CUT or is_gated):
                result = result.detach()
                result._sfam_cut = True  # type: ignore[attr-defined]
        return result

    def _fused(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Tensor:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        query, key, value = (given[name] for name in names[:3])
        output = func(*args, **kwargs)
        if query.ndim != 4 or given.get("is_causal") or query.shape[1] != key.shape[1]:
            return output
        scale = given.get("scale") or query.shape[-1] ** -0.5
        logits = (query[:, :, :1] * scale) @ key.mT
        mask = given.get("attn_mask")
        if mask is not None:
            mask = mask[..., :1, :]
            zero = torch.zeros((), dtype=logits.dtype, device=logits.device)
            if mask.dtype == torch.bool:
                mask = zero.masked_fill(~mask, -torch.inf)
            logits = logits + mask
        return self._visit(logits.softmax(-1)[:, :, 0], value, output)

    def _multi_head(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        names = (
            *("query", "key", "value", "embed_dim_to_check", "num_heads"),
            *("in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "add_zero_attn"),
            *("dropout_p", "out_proj_weight", "out_proj_bias"),
        )
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        asked = given.get("need_weights", True), given.get("average_attn_weights", True)
        given |= {"need_weights": True, "average_attn_weights": False}
        output, weights = func(**given)
        usual = all(
            given.get(name) is None or given.get(name) is False
            for name in ("bias_k", "bias_v", "add_zero_attn", "is_causal")
        )
        weight, bias = given["in_proj_weight"], given["in_proj_bias"]
        if weight is not None and usual and weights.ndim == 4:
            # Sequences come first: (N, B, width).
            width = weight.shape[0] // 3
            rows = None if bias is None else bias[2 * width :]
            value = F.linear(given["value"].detach(), weight[2 * width :], rows)
            value = value.unflatten(2, (given["num_heads"], -1)).permute(1, 2, 0, 3)
            added = self._added(weights[:, :, 0], value, len(output))
            if added is not None:
                tokens = added.permute(2, 0, 1, 3).flatten(2)
                change = F.linear(tokens, given["out_proj_weight"])
                output = _with_rows(output.detach(), change, 0)
        if not asked[0]:
            return output, None
        return output, weights.mean(1) if asked[1] else weights

    def _visit(self, weights: Tensor, values: Tensor, output: Tensor) -> Tensor:
        """Keep what an attention layer mixes; cut its output off where asked to."""
        added = self._added(weights, values, output.shape[2])
        return output if added is None else _with_rows(output.detach(), added, 2)

    def _added(self, weights: Tensor, values: Tensor, rows: int) -> Tensor | None:
        attended = Attended(weights.detach(), values.detach(), rows)
        count = self._rows_cut(len(self.seen), attended)
        self.seen.append(attended)
        self.added.append(None)
        if count:
            # The network may have turned gradients off itself, say for its backbone.
            torch.set_grad_enabled(True)
            self._is_cutting = True
            zeros = values.new_zeros(*values.shape[:2], count, values.shape[3])
            self.added[-1] = zeros.requires_grad_(True)
        return self.added[-1]


def _with_rows(output: Tensor, added: Tensor, dim: int) -> Tensor:
    """Add to the first rows of an output."""
    rows = added.shape[dim]
    first = output.narrow(dim, 0, rows) + added
    rest = output.narrow(dim, rows, output.shape[dim] - rows)
    return torch.cat([first, rest], dim)


@dataclass(frozen=True)
class DirectHead:
    """How what attention layers write into the class token reaches the embedding.

    Attributes
    ----------
    places : tuple of int
        The attention layers, by their place among all of the network.
    info : LayerInfo
        Their outputs, joined along the channels.
    weights : Tensor
        The linear map to the embedding for one image, shape (D, C).
    """

    places: tuple[int, ...]
    info: LayerInfo
    weights: Tensor

    def split(self, runner: NetworkRunner, images: Tensor) -> SplitNetwork:
        """Run images; return what the layers write, with the graph of the head."""
        last = self.places[-1]
        output, tap, held = _tapped(runner, images, lambda place, _: int(place == last))
        count = len(images)
        kept = [tap.seen[place] for place in self.places if place < len(tap.seen)]
        tokens = {attended.weights.shape[-1] for attended in kept}
        expected = self.info.prefix_tokens + self.info.positions
        if len(kept) < len(self.places) or tokens != {expected}:
            raise ModelError(
                f"the attention layers of model '{runner.name}' mix {sorted(tokens)} "
                f"tokens on an input of shape {tuple(images.shape)}, and {expected} "
                "when its layers were found; give images of one size."
            )
        written = torch.cat([a.written[:count].float() for a in kept], 1)
        maps, prefix = self.info.maps(written.mT)
        leaves = as_leaf(maps), None if prefix is None else as_leaf(prefix)
        with torch.inference_mode(False), torch.enable_grad():
            factor = self._factor(runner, output, tap.added[last], count)
            # Averages have one gradient for all positions, which makes maps cheap.
            mixed = leaves[0].mean((2, 3)) * self.info.positions
            if leaves[1] is not None:
                mixed = mixed + leaves[1].sum(1)
            direct = factor * (mixed @ self.weights.T)
            embeddings = output.detach().float().clone()
            embeddings = (embeddings - direct.detach()) + direct
        return SplitNetwork(*leaves, embeddings, held)

    def _factor(
        self, runner: NetworkRunner, output: Tensor, added: Tensor | None, count: int
    ) -> Tensor:
        """Return the derivative of each image relative to the known one, (B, 1)."""
        assert added is not None
        last = self.weights[:, -added.shape[1] * added.shape[3] :]
        probe = _probe(output)
        (found,) = torch.autograd.grad(output, added, probe.expand_as(output))
        found = found[:count].flatten(1).float()
        known = probe.float() @ last
        factor = (found @ known.T) / known.square().sum()
        if (found - factor * known).norm() > _rounding(output) * found.norm():
            raise ModelError(_refusal(runner.name, _NOT_LINEAR))
        return factor


_NOTHING = "nothing of them reaches the embedding"
_NOT_LINEAR = (
    "what follows the residual stream is not one linear map for all images, up to a "
    "factor"
)


def _refusal(model: str, reason: str) -> str:
    return (
        f"model '{model}' has no direct contributions of its attention layers to a "
        f"class token: {reason}; name another layer, or none."
    )


def _rounding(output: Tensor) -> float:
    """Return the relative difference of two derivatives that is rounding."""
    return max(_SAME, _SAME_UNITS * torch.finfo(output.dtype).eps)


def _probe(output: Tensor) -> Tensor:
    """Return a random direction of the embedding, (1, D)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, output.shape[1], generator=generator).to(output)


def _tapped(
    runner: NetworkRunner, images: Tensor, cut: Callable[[int, Attended], int]
) -> tuple[Tensor, _AttentionTap, HeldHead]:
    """Run a network, and see what its attention layers mix."""
    doubles = runner.doubles
    tap, held = _AttentionTap(cut), HeldHead()
    with (
        torch.inference_mode(False),
        runner.ready(images),
        constant_parameters(runner.network),
        torch.enable_grad(),
        held,
        tap,
    ):
        output = runner.forward(images)
    # What ran before a failure was seen, too.
    return (
        (output, tap, held)
        if doubles == runner.doubles
        else _tapped(runner, images, cut)
    )


def find_direct(runner: NetworkRunner, image: Tensor) -> LayerInfo:
    """Find the attention layers that write into the class token, and split there.

    An image is (3, H, W).

    Raises
    ------
    ModelError
        If the embedding is not that of a class token, or its attention layers are not
        recognized, or what follows them is not one linear map for all images.
    """
    images = patched(image)
    with torch.no_grad():
        _, tap, _ = _tapped(runner, images, lambda _place, _attended: 0)
    layers = examine(runner, image, only="").layers.values()
    maps = [layer.info for layer in layers if not layer.problem]
    arranged = {place: _arranged(one, maps) for place, one in enumerate(tap.seen)}
    found = {place: info for place, info in arranged.items() if info is not None}
    counts = {place: tap.seen[place].weights.shape[-1] for place in found}
    places = tuple(p for p, count in counts.items() if count == [*counts.values()][-1])
    if not places:
        reason = "no attention layer over a class token and the image was recognized"
        raise ModelError(_refusal(runner.name, reason))
    # Values have not been mixed with those of other places before the first layer.
    first = tap.seen[places[0]].written.mT
    info = found[places[0]]
    seen = seen_layer(DIRECT, len(places), first, len(images), [info])
    if seen.problem:
        raise ModelError(_refusal(runner.name, f"the first one {seen.problem}"))
    weights = _weights(runner, images[:2], places)
    shape = (weights.shape[1], *info.shape[1:])
    head = DirectHead(places, replace(seen.info, shape=shape), weights)
    runner.splits_otherwise = partial(head.split, runner)
    if not runner.depends_on(image[None], head.info):
        raise ModelError(_refusal(runner.name, _NOTHING))
    return head.info


def _arranged(attended: Attended, maps: Sequence[LayerInfo]) -> LayerInfo | None:
    """Arrange the tokens of an attention layer as the finest known map that fits."""
    tokens = attended.weights.shape[-1]
    fitting = [m for m in maps if 0 < tokens - m.positions <= MOST_PREFIX]
    if not fitting:
        return None
    info = max(fitting, key=lambda m: m.positions)
    channels = attended.values.shape[1] * attended.values.shape[3]
    shape = (channels, *info.shape[1:])
    return LayerInfo(DIRECT, shape, 1, "tokens", tokens - info.positions)


def _weights(runner: NetworkRunner, images: Tensor, places: tuple[int, ...]) -> Tensor:
    """Compute the linear map from what the layers write to the embedding, (D, C)."""
    pull = _Pull(runner, images[:2], places, all_rows=True)
    by_layer = pull(_probe(pull.output)[0])
    scale = max(float(one.abs().max()) for one in by_layer)
    # The last layer tells the factor of each image.
    if not by_layer[-1].any():
        raise ModelError(_refusal(runner.name, _NOTHING))
    others = [one[:, :, 1:].abs().sum() for one in by_layer]
    if max(map(float, others)) > _rounding(pull.output) * scale:
        reason = "the embedding also comes from other tokens, say by averaging them"
        raise ModelError(_refusal(runner.name, reason))
    first, second = torch.cat([one[:2, :, 0].flatten(1) for one in by_layer], 1)
    factor = (first @ second) / first.square().sum()
    if (second - factor * first).norm() > _rounding(pull.output) * second.norm():
        raise ModelError(_refusal(runner.name, _NOT_LINEAR))
    pull = _Pull(runner, images[:1], places, all_rows=False)
    rows = [
        torch.cat([one[0].flatten() for one in pull(direction)])
        for direction in torch.eye(pull.output.shape[1]).to(pull.output)
    ]
    return torch.stack(rows).float()


class _Pull:
    """Pulls directions of the embedding back to what attention layers mix."""

    def __init__(
        self,
        runner: NetworkRunner,
        images: Tensor,
        places: tuple[int, ...],
        *,
        all_rows: bool,
    ) -> None:
        def cut(place: int, attended: Attended) -> int:
            rows = attended.rows if all_rows else 1
            return rows if place in places else 0

        self.output, tap, _ = _tapped(runner, images, cut)
        added = [tap.added[place] for place in places]
        self._added = [one for one in added if one is not None]

    def __call__(self, direction: Tensor) -> list[Tensor]:
        """Return, of each layer, (B, heads, rows, width of a head)."""
        if not self.output.requires_grad:
            return [torch.zeros_like(one) for one in self._added]
        with torch.inference_mode(False):
            found = torch.autograd.grad(
                self.output,
                self._added,
                direction.expand_as(self.output),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        return list(found)
