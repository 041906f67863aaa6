"""Relevance propagation for pairs, BiLRP, on convolutional networks.

O. Eberle et al., "Building and Interpreting Deep Similarity Models", IEEE TPAMI 2022,
arXiv:2003.05431, explain an inner product of two embeddings by pairs of positions,
``R(i, j) = sum_k R_k(i) R_k(j)`` with ``R_k`` the relevance that is propagated from
value k of an embedding to position i of the one and j of the other image. Its sum over
the positions of the partner is what its embedding is multiplied with, as relevance adds
up to the value that it starts from; so a map of one image takes one backward pass.

It is written from the formula of LRP-gamma: a unit's relevance is shared out over its
inputs as ``a_i (w_i + gamma w_i^+)``, and the bias takes part. Decided here, for inputs
and units of both signs: contributions of the unit's sign count 1 + gamma times; gamma
is 0.25 in all layers; channel-wise scales and shifts after a convolution are merged
with it; gates are held constant; pixels are treated like other inputs. The paper has no
rule for LayerNorm or attention, so BiLRP does not apply to EdgeFace and the vision
transformer. What the biases take is missing from the sum of a map, and on deep networks
that is most of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import normalizer

GAMMA = 0.25


@dataclass(frozen=True)
class _Affine:
    """A convolution or linear layer, with what was merged into it."""

    inputs: Tensor
    weight: Tensor  # the first axis is that of the outputs
    bias: Tensor  # (outputs,)
    run: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    output: Tensor  # kept, so that no other tensor gets its id

    def changed(self, scale: Tensor | float, shift: Tensor | float) -> _Affine:
        """Merge a scale and a shift per channel of the output."""
        scale, shift = (
            torch.as_tensor(one).to(self.bias).flatten().expand_as(self.bias)
            for one in (scale, shift)
        )
        weight = self.weight * scale.reshape(-1, *(1,) * (self.weight.dim() - 1))
        merged = replace(self, weight=weight, bias=self.bias * scale + shift)
        return replace(merged, output=merged.propagated())

    def propagated(self, gamma: float = GAMMA) -> Tensor:
        """Compute the output, with a gradient that shares relevance out by the rule."""
        plain = self.run(self.inputs, self.weight, self.bias)
        up, down = (self._boosted(gamma, sign) for sign in (1, -1))
        shared = torch.where(plain.detach() >= 0, up, down)
        value = shared.detach()
        # The boosted sum is as far from zero as the output, or farther.
        ratio = plain.detach() / torch.where(value == 0, 1.0, value)
        sent = ratio * shared
        return sent + (plain - sent).detach()

    def _boosted(self, gamma: float, sign: int) -> Tensor:
        """Compute the output with contributions of a sign counted 1 + gamma times."""
        parts = [
            self.run(
                self.inputs.clamp(**bound),
                self.weight + gamma * _part(self.weight, sign * side),
                self.bias + gamma * _part(self.bias, sign) if side > 0 else None,
            )
            for side, bound in ((1, {"min": 0}), (-1, {"max": 0}))
        ]
        return parts[0] + parts[1]


def _part(values: Tensor, sign: int) -> Tensor:
    return values.clamp(min=0) if sign > 0 else values.clamp(max=0)


class _Relevance(TorchFunctionMode):
    """Run a network so that input times gradient is relevance."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: dict[int, _Affine] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        rule = getattr(self, f"_{getattr(func, '__name__', '').strip('_')}", None)
        answer = rule(func, *args, **(kwargs or {})) if rule else None
        return func(*args, **(kwargs or {})) if answer is None else answer

    def _keep(self, affine: _Affine) -> Tensor:
        self.pending[id(affine.output)] = affine
        return affine.output

    def _layer(
        self,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        run: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    ) -> Tensor:
        none = weight.new_zeros(len(weight)) if bias is None else bias
        affine = _Affine(inputs, weight, none, run, inputs)
        return self._keep(affine.changed(1.0, 0.0))

    def _conv2d(
        self, func: Any, inputs: Tensor, weight: Tensor, bias: Any = None, *rest: Any
    ) -> Tensor:
        return self._layer(inputs, weight, bias, lambda x, w, b: func(x, w, b, *rest))

    def _linear(
        self, func: Any, inputs: Tensor, weight: Tensor, bias: Any = None
    ) -> Tensor:
        return self._layer(inputs, weight, bias, func)

    def _batch_norm(
        self, _func: Any, inputs: Tensor, mean: Any, variance: Any, *rest: Any, **k: Any
    ) -> Tensor | None:
        affine = self.pending.get(id(inputs))
        if affine is None:
            return None
        weight, bias = (*rest, None, None)[:2]
        weight, bias = k.get("weight", weight), k.get("bias", bias)
        scale = (variance + k.get("eps", rest[-1] if rest else 1e-5)).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        return self._keep(affine.changed(scale, shift))

    def _mul(self, func: Any, first: Any, second: Any) -> Tensor | None:
        affine = self.pending.get(id(first))
        if affine is not None and _constant(second, affine):
            return self._keep(affine.changed(second, 0.0))
        if _live(first) and _live(second):
            # The smaller one is a gate.
            smaller = first.numel() < second.numel()
            pair = (first.detach(), second) if smaller else (first, second.detach())
            return func(*pair)
        return None

    def _add(self, _func: Any, first: Any, second: Any) -> Tensor | None:
        affine = self.pending.get(id(first))
        if affine is None or not _constant(second, affine):
            return None
        return self._keep(affine.changed(1.0, second))

    def _relu6(self, _func: Any, inputs: Tensor, *_rest: Any, **_k: Any) -> Tensor:
        # Beyond 6 the slope is zero, but the value is not.
        gate = F.relu(6 - F.relu(6 - inputs.detach())) / inputs.detach().clamp(min=1e-9)
        return inputs * torch.where(inputs.detach() > 0, gate, 0.0)

    _hardtanh = _relu6


def _live(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _constant(value: Any, affine: _Affine) -> bool:
    """Tell whether a value is a scale or shift per channel of a layer's output."""
    if _live(value):
        return False
    return not isinstance(value, Tensor) or value.numel() in (1, len(affine.bias))


def bilrp(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    """Propagate the inner product with each partner to the pixels, over all colors."""
    with _Relevance():
        leaf, _, embeddings = model.record(image[None])
    scale = normalizer(embeddings[0].detach(), partners, model.metric)
    found = []
    for partner in partners / scale[:, None]:
        (slope,) = torch.autograd.grad(
            embeddings, leaf, partner[None].to(embeddings), retain_graph=True
        )
        found.append((slope * leaf.detach()).sum(1)[0])
    return torch.stack(found)
