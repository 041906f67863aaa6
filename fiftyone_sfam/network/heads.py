"""Heads: the part of a network after its feature map, and its derivative.

For each pair, the maps need ``V = d<embedding, cotangent>/d feature map``. One backward
pass through the head computes it for one cotangent of every image of a batch. Two kinds
of heads, both recognized by their behavior, cost less:

- A head that begins by averaging each channel has the same gradient at all positions of
  a channel, so ``V`` is one number per channel, and several passes run at once.
- A linear head has one Jacobian ``J`` for all images. The sums over channels and over
  positions, of which maps and channel importances consist, are then taken once per
  image, ``sum_c J[d, c, p] A[c, p]`` and ``sum_p J[d, c, p] A[c, p]``, and each partner
  costs one product with its embedding.

What a head computes from the image to divide or weight its values by is held constant,
see :mod:`fiftyone_sfam.network.held`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

# Relative difference of two derivatives that is rounding.
_SAME = 1e-6
# Largest size of a Jacobian, in bytes.
_LARGEST_JACOBIAN = 2**28
# Least number of partners per image for which a Jacobian is faster.
_MANY_PARTNERS = 4
# Largest number of values in the passes that run at once.
_AT_ONCE = 2**22
# Time of a pass forward through a head, relative to one backward.
_TANGENT_COST = 6
# Derivative along an embedding, relative to another direction, that counts as none.
_NO_CHANGE = 5e-3


@dataclass(frozen=True)
class Jacobian:
    """The derivative of a linear head, in the two orders that products need."""

    by_position: Tensor  # shape (h w, C, D), float32
    by_channel: Tensor  # shape (C, h w, D), float32

    @classmethod
    def of(cls, rows: Tensor) -> Jacobian:
        """Arrange a Jacobian of shape (D, C, h, w)."""
        flat = rows.float().flatten(2)
        return cls(
            flat.permute(2, 1, 0).contiguous(), flat.permute(1, 2, 0).contiguous()
        )


@dataclass(frozen=True)
class LinearizedHead:
    """Feature maps, their embeddings, and the derivative between the two."""

    leaf: Tensor  # the tensor that the head was evaluated at, shape (B, C, h, w)
    output: Tensor  # the head's value with its graph, shape (B, D)
    known: dict[tuple[int, ...], Jacobian] = field(
        default_factory=dict, repr=False, compare=False
    )
    prefix: Tensor | None = None  # tokens without a place on the image, (B, P, C)

    def __len__(self) -> int:
        return len(self.leaf)

    @property
    def feature_map(self) -> Tensor:
        """Feature maps, shape (B, C, h, w), at least float32, without gradient."""
        return _at_least_float32(self.leaf.detach())

    @property
    def embedding(self) -> Tensor:
        """Embeddings, shape (B, D), at least float32, without gradient."""
        return _at_least_float32(self.output.detach())

    def vjp(self, cotangents: Tensor) -> Tensor:
        """Multiply cotangents by the head's Jacobian, from the left."""
        return self._pull_back(self.leaf, cotangents)

    def vjp_per_channel(self, cotangents: Tensor) -> Tensor | None:
        """Multiply cotangents by the Jacobian of a head that begins by averaging.

        The gradient of global average pooling is the same at all positions, so it is
        one number per channel, and no tensor of the feature map's size is needed.
        """
        if self._pooling is None:
            return None
        averages = self._pull_back(self._pooling, cotangents)
        averages = averages.reshape(*cotangents.shape[:-1], -1)
        return averages / (self.leaf.shape[2] * self.leaf.shape[3])

    def pull_per_channel(self, rows: Tensor, cotangents: Tensor) -> Tensor | None:
        """Pull cotangents of pairs back through a head that begins by averaging."""
        if self._pooling is None:
            return None
        products = self.feature_map.new_empty(len(rows), self.leaf.shape[1])
        size = len(self) * max(self.leaf.shape[1], self.output.shape[1])
        for passes in _grouped(self._passes(rows), max(1, _AT_ONCE // size)):
            batches = self.embedding.new_zeros(len(passes), *self.output.shape)
            for batch, (pairs, slots) in zip(batches, passes, strict=True):
                batch[slots] = cotangents[pairs]
            pulled = self.vjp_per_channel(batches)
            assert pulled is not None
            for product, (pairs, slots) in zip(pulled, passes, strict=True):
                products[pairs] = product[slots]
        return products

    def prefix_evidence(self, rows: Tensor, cotangents: Tensor) -> Tensor:
        """Return what the tokens without a place contribute to pairs, shape (P,)."""
        shares = self.embedding.new_zeros(len(rows))
        if self.prefix is None:
            return shares
        tokens = _at_least_float32(self.prefix.detach())
        for pairs, slots in self._passes(rows):
            batch = torch.zeros_like(self.embedding)
            batch[slots] = cotangents[pairs]
            pulled = self._pull_back(self.prefix, batch)
            shares[pairs] = (pulled[slots] * tokens[rows[pairs]]).sum((1, 2))
        return shares

    def contributions(self, rows: Tensor, cotangents: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the contributions to pairs over channels, and over positions.

        The results have shapes (P, h, w) and (P, C).
        """
        if len(rows) >= _MANY_PARTNERS * len(self):
            jacobian = self._jacobian
            if jacobian is not None:
                return self._contributions_by(jacobian, rows, cotangents)
        feature_map = self.feature_map
        by_position = feature_map.new_empty(len(rows), *feature_map.shape[2:])
        by_channel = feature_map.new_empty(len(rows), feature_map.shape[1])
        for pairs, slots in self._passes(rows):
            batch = torch.zeros_like(self.embedding)
            batch[slots] = cotangents[pairs]
            # If each image has a pair in the pass, the maps are in the right rows.
            whole = len(slots) == len(self) and torch.equal(rows[pairs], slots)
            pulled = self.vjp(batch)
            part = pulled if whole else pulled[slots]
            part = part.mul_(feature_map if whole else feature_map[rows[pairs]])
            by_position[pairs] = part.sum(1).to(by_position)
            by_channel[pairs] = part.sum((2, 3)).to(by_channel)
        return by_position, by_channel

    def position_contributions(self, directions: Tensor | None = None) -> Tensor:
        """Compute what each position contributes to the embedding, (B, h w, D).

        That is ``J A(p)``, with the head's Jacobian ``J`` and the feature map that is
        zero except at position ``p``. With directions, of shape (K, D), the result is
        their inner products with it, (B, h w, K).

        A head that begins by averaging, or a linear one, has a closed form. Any other
        takes a backward pass per direction, or one forward per position where there are
        few of them.
        """
        if directions is None:
            directions = torch.eye(self.output.shape[1])
        directions = directions.to(self.embedding)
        maps = self.feature_map.float().flatten(2)
        if self._pooling is None:
            jacobian = self._jacobian
            if jacobian is not None:
                shares = maps.permute(2, 0, 1) @ jacobian.by_position
                return (shares @ directions.float().T).transpose(0, 1).contiguous()
            passes = _TANGENT_COST * maps.shape[2]
            if passes < len(directions) and self._has_tangents:
                return self._by_position() @ directions.float().T
        count, _, positions = maps.shape
        shares = maps.new_empty(len(directions), count, positions)
        start = 0
        for pulled in self._pull_directions(directions):
            part = shares[start : start + len(pulled)]
            if self._pooling is None:
                for row, gradient in zip(part, pulled.flatten(3), strict=True):
                    row.copy_((gradient * maps).sum(1))
            else:
                part.copy_(torch.einsum("kbc,bcp->kbp", pulled.float(), maps))
            start += len(pulled)
        return shares.permute(1, 2, 0).contiguous()

    def _by_position(self) -> Tensor:
        """Push each position of the feature maps forward, (B, h w, D)."""
        feature_map = self.feature_map
        width = feature_map.shape[3]
        probe, gradient = self._transposed()
        products = []
        for place in range(feature_map[0, 0].numel()):
            tangents = torch.zeros_like(feature_map)
            at = (slice(None), slice(None), place // width, place % width)
            tangents[at] = feature_map[at]
            products.append(_push(probe, gradient, tangents).float())
        return torch.stack(products, 1)

    def _pull_directions(self, directions: Tensor) -> Iterator[Tensor]:
        """Pull directions of the embedding back, several at a time.

        Yields tensors of shape (K, B, C, h, w), or (K, B, C) for a head that begins by
        averaging. B is 1 if the derivative is the same for all images: each image of
        the batch then serves another direction.
        """
        count, size = self.output.shape
        if self.is_the_same_for_all:
            for part in directions.split(count):
                batch = torch.zeros_like(self.embedding)
                batch[: len(part)] = part
                yield self._pull(batch)[: len(part), None]
            return
        of_image = self.leaf[0].numel() if self._pooling is None else self.leaf.shape[1]
        for part in directions.split(max(1, _AT_ONCE // (count * max(of_image, size)))):
            yield self._pull(part[:, None].expand(-1, count, -1))

    def _pull(self, cotangents: Tensor) -> Tensor:
        """Pull cotangents back, per channel if the head begins by averaging."""
        pulled = self.vjp_per_channel(cotangents)
        return self.vjp(cotangents) if pulled is None else pulled

    @property
    def is_the_same_for_all(self) -> bool:
        """Whether the head has one Jacobian for all images, as a linear head has.

        It is compared, up to rounding, in one random direction, in which different
        Jacobians agree with probability zero.
        """
        if len(self) < 2:
            return False
        _, products = self._probed
        largest = float(products.abs().amax())
        return bool((products - products[:1]).abs().amax() <= _SAME * largest)

    @cached_property
    def _probed(self) -> tuple[Tensor, Tensor]:
        """A direction (D,), and its product with the Jacobian of each image."""
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(1, self.output.shape[1], generator=generator)
        direction = direction.to(self.output.device)
        probe = direction.expand(len(self), -1)
        return direction[0], self._pull(probe)

    @property
    def _jacobian(self) -> Jacobian | None:
        """The Jacobian, if the head is linear and it is not too large."""
        count, channels, height, width = self.leaf.shape
        size = self.output.shape[1]
        if 4 * size * channels * height * width > _LARGEST_JACOBIAN:
            return None
        if not self.is_the_same_for_all:
            return None
        key = (size, channels, height, width)
        known = self.known.get(key)
        if known is not None:
            # The network may have been given other weights since.
            probe, products = self._probed
            current = products[0].float().flatten(1).T
            error = (known.by_position @ probe - current).abs().amax()
            if error <= 10 * _SAME * current.abs().amax():
                return known
        units = torch.eye(size, device=self.leaf.device)
        blocks = []
        for part in units.split(count):
            batch = self.output.new_zeros(count, size)
            batch[: len(part)] = part
            blocks.append(self.vjp(batch)[: len(part)])
        self.known[key] = Jacobian.of(torch.cat(blocks))
        return self.known[key]

    def _contributions_by(
        self, jacobian: Jacobian, rows: Tensor, cotangents: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum contributions with a linear head's Jacobian."""
        height, width = self.leaf.shape[2:]
        maps = self.feature_map.float().flatten(2)
        cotangents = cotangents.float()
        # Of each image, (h w, B, D) and (C, B, D).
        positions = maps.permute(2, 0, 1) @ jacobian.by_position
        channels = maps.permute(1, 0, 2) @ jacobian.by_channel
        by_position = maps.new_empty(len(rows), height * width)
        by_channel = maps.new_empty(len(rows), maps.shape[1])
        for image in torch.unique(rows).tolist():
            pairs = rows == image
            by_position[pairs] = cotangents[pairs] @ positions[:, image].T
            by_channel[pairs] = cotangents[pairs] @ channels[:, image].T
        return by_position.unflatten(1, (height, width)), by_channel

    def _passes(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Split pairs into backward passes: the pairs of each, and their rows.

        One pass through the head covers one partner of every image of the batch, so the
        number of passes is the largest number of partners of one image. If the
        derivative is the same for all images, any row can hold any pair, and no row
        stays empty.
        """
        if len(rows) == 0:
            return
        order = torch.argsort(rows, stable=True)
        ordered = rows[order]
        starts = torch.searchsorted(ordered, ordered)
        occurrence = torch.arange(len(rows), device=rows.device) - starts
        count = int(occurrence.max()) + 1
        if -(-len(rows) // len(self)) < count and self.is_the_same_for_all:
            for pairs in torch.arange(len(rows), device=rows.device).split(len(self)):
                yield pairs, torch.arange(len(pairs), device=rows.device)
            return
        for group in range(count):
            pairs = order[occurrence == group]
            yield pairs, rows[pairs]

    @cached_property
    def _pooling(self) -> GradientEdge | None:
        """Place of the averages in the graph, if the head uses the map only by them."""
        consumers: dict[Any, list[Any]] = {}
        waiting, seen = [self.output.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            for following, _ in node.next_functions:
                consumers.setdefault(following, []).append(node)
                waiting.append(following)
        (start,) = [
            node for node in consumers if getattr(node, "variable", None) is self.leaf
        ] or [None]
        path = consumers.get(start, [])
        while len(path) == 1 and path[0].name() == "CloneBackward0":
            path = consumers.get(path[0], [])
        if len(path) != 1 or path[0].name() != "MeanBackward1":
            return None
        # Negative dimensions are saved as unsigned numbers of 64 bits too.
        averaged = sorted((dim + 4) % 2**64 % 4 for dim in path[0]._saved_dim or ())
        return GradientEdge(path[0], 0) if averaged == [2, 3] else None

    def _pull_back(self, to: Tensor | GradientEdge, cotangents: Tensor) -> Tensor:
        """Run the head's backward pass down to a place in its graph."""
        dtype = self.output.dtype
        if torch.finfo(dtype).bits >= 32:
            return self._gradient(to, cotangents.to(dtype))
        # Partners over Z are small, and their gradients vanish in half precision.
        scale = cotangents.abs().amax(-1)
        scale = torch.where(scale > 0, scale, 1)
        gradient = self._gradient(to, (cotangents / scale[..., None]).to(dtype))
        return gradient * scale.reshape(
            *scale.shape, *[1] * (gradient.ndim - scale.ndim)
        )

    def _gradient(self, to: Tensor | GradientEdge, cotangents: Tensor) -> Tensor:
        several = cotangents.ndim == 3
        if several and (len(cotangents) == 1 or not self._vectorizes):
            return torch.stack([self._gradient(to, batch) for batch in cotangents])
        with torch.inference_mode(False):
            (gradient,) = torch.autograd.grad(
                self.output,
                to,
                cotangents,
                retain_graph=True,
                materialize_grads=isinstance(to, Tensor),
                is_grads_batched=several,
            )
        return _at_least_float32(gradient)

    @cached_property
    def _vectorizes(self) -> bool:
        """Whether torch can run several backward passes of this head at once.

        It cannot for custom operations.
        """
        place = self.leaf if self._pooling is None else self._pooling
        zeros = self.output.new_zeros(2, *self.output.shape)
        try:
            with torch.inference_mode(False), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.autograd.grad(
                    self.output, place, zeros, retain_graph=True, is_grads_batched=True
                )
        except RuntimeError:
            return False
        return True

    def jvp(self, tangents: Tensor) -> Tensor:
        """Multiply tangents by the head's Jacobian, from the right.

        The Jacobian-vector product is computed as the derivative of the vector-Jacobian
        product, which is linear in its vector (J. Townsend, "A new trick for
        calculating Jacobian vector products", 2017). This needs neither another
        evaluation of the head nor operations that support forward mode.
        """
        return _push(*self._transposed(), tangents)

    def _transposed(self) -> tuple[Tensor, Tensor]:
        """Pull a cotangent back; return it and the result, with the graph between."""
        with torch.inference_mode(False), torch.enable_grad():
            probe = torch.zeros_like(self.output, requires_grad=True)
            (gradient,) = torch.autograd.grad(
                self.output,
                self.leaf,
                probe,
                create_graph=True,
                materialize_grads=True,
            )
        return probe, gradient

    @cached_property
    def _has_tangents(self) -> bool:
        """Whether torch can differentiate the backward pass of this head.

        It cannot for some custom operations.
        """
        try:
            self.jvp(torch.zeros_like(self.leaf))
        except RuntimeError:
            return False
        return True


def _push(probe: Tensor, gradient: Tensor, tangents: Tensor) -> Tensor:
    """Multiply tangents by the Jacobian, given a pulled back cotangent."""
    with torch.inference_mode(False), torch.enable_grad():
        (product,) = torch.autograd.grad(
            gradient,
            probe,
            tangents.to(gradient.dtype),
            retain_graph=True,
            materialize_grads=True,
        )
    return _at_least_float32(product)


def as_leaf(tensor: Tensor) -> Tensor:
    """Detach a tensor from its graph and start a new graph with it."""
    leaf = tensor.detach()
    # A tensor made in inference mode cannot require a gradient; a copy can.
    return (leaf.clone() if leaf.is_inference() else leaf).requires_grad_(True)


def _grouped(
    passes: Iterator[tuple[Tensor, Tensor]], size: int
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Group the passes that run at once."""
    while group := list(islice(passes, size)):
        yield group


def _at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision, in which scores overflow and maps lose digits."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def is_constant_length(anywhere: Tensor, lengthwise: Tensor) -> bool:
    """Return whether embeddings have one length, by a head's derivatives.

    The derivatives are those along a random direction and along the embedding.
    """
    limit = _NO_CHANGE * anywhere.float().norm()
    return bool(lengthwise.float().norm() < limit)
