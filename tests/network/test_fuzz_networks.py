"""Random small networks: what the maps promise, for heads that nobody has written."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from architectures_measured import ReplayedHead, run_head
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import METRICS, Metric, normalizer
from fuzzing import fuzz
from networks import randomize

# Forward-mode differentiation loads torch's own scripted decompositions.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")

NORMS = ("none", "batch", "instance", "group")
ACTIVATIONS = ("relu", "relu in place", "silu", "prelu", "tanh", "none")
POOLS = ("average", "max", "gem", "flatten", "gated", "both", "attention")
TAILS = ("none", "linear", "bn neck", "dropout", "normalize", "tanh", "residual")


def activation(name: str) -> nn.Module:
    return {
        "relu": nn.ReLU,
        "relu in place": lambda: nn.ReLU(inplace=True),
        "silu": nn.SiLU,
        "prelu": nn.PReLU,
        "tanh": nn.Tanh,
        "none": nn.Identity,
    }[name]()


def norm(name: str, channels: int) -> nn.Module:
    return {
        "none": nn.Identity,
        "batch": lambda: nn.BatchNorm2d(channels),
        "instance": lambda: nn.InstanceNorm2d(channels, affine=True),
        "group": lambda: nn.GroupNorm(2, channels),
    }[name]()


class Block(nn.Module):
    """A convolution with what usually follows, and maybe a way around it."""

    def __init__(self, inputs: int, spec: dict[str, Any]) -> None:
        super().__init__()
        self.width = spec["width"]
        self.conv = nn.Conv2d(
            inputs,
            self.width,
            spec["kernel"],
            stride=spec["stride"],
            padding=spec["kernel"] // 2,
        )
        self.norm = norm(spec["norm"], self.width)
        self.activation = activation(spec["activation"])
        self.skips = spec["skips"] and inputs == self.width and spec["stride"] == 1

    def forward(self, maps: Tensor) -> Tensor:
        found = self.norm(self.conv(maps))
        return self.activation(found + maps if self.skips else found)


class Head(nn.Module):
    """Pooling of any kind, and what follows it."""

    def __init__(self, channels: int, positions: int, spec: dict[str, Any]) -> None:
        super().__init__()
        self.pool = spec["pool"]
        self.gate = nn.Conv2d(channels, 1, 1)
        size = {"flatten": channels * positions, "both": 2 * channels}
        width = size.get(self.pool, channels)
        self.tails = spec["tails"]
        self.layers = nn.ModuleList()
        for tail in self.tails:
            if tail in ("linear", "bn neck"):
                self.layers.append(nn.Linear(width, 6))
                width = 6
            elif tail == "residual":
                self.layers.append(nn.Linear(width, width))
            else:
                self.layers.append(nn.Identity())
        self.neck = nn.BatchNorm1d(6)
        self.dropout = nn.Dropout(0.5)

    def forward(self, maps: Tensor) -> Tensor:
        found = self._pooled(maps)
        for tail, layer in zip(self.tails, self.layers, strict=True):
            if tail == "dropout":
                found = self.dropout(found)
            elif tail == "normalize":
                found = nn.functional.normalize(found)
            elif tail == "tanh":
                found = torch.tanh(found)
            elif tail == "residual":
                found = found + torch.relu(layer(found))
            elif tail == "bn neck":
                found = self.neck(layer(found))
            else:
                found = layer(found)
        return found

    def _pooled(self, maps: Tensor) -> Tensor:
        if self.pool == "average":
            return maps.mean((2, 3))
        if self.pool == "max":
            return maps.amax((2, 3))
        if self.pool == "gem":
            return maps.clamp(min=1e-3).pow(3).mean((2, 3)).pow(1 / 3)
        if self.pool == "flatten":
            return maps.flatten(1)
        if self.pool == "gated":
            return (maps * torch.sigmoid(self.gate(maps))).mean((2, 3))
        if self.pool == "both":
            return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        weights = self.gate(maps).flatten(2).softmax(-1)
        return (maps.flatten(2) * weights).sum(-1)


class Network(nn.Module):
    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        blocks, channels = [], 3
        for one in spec["blocks"]:
            blocks.append(Block(channels, one))
            channels = one["width"]
        self.trunk = nn.Sequential(*blocks)
        with torch.no_grad():
            shape = self.trunk.eval()(torch.zeros(1, 3, *spec["size"])).shape
        self.head = Head(channels, shape[2] * shape[3], spec)
        self.answer = spec["answer"]

    def forward(self, images: Tensor) -> Any:
        found = self.head(self.trunk(images))
        return {"plain": found, "tuple": (0, found), "map": found[..., None, None]}[
            self.answer
        ]


BLOCKS = st.fixed_dictionaries(
    {
        "width": st.sampled_from([4, 6, 8]),
        "kernel": st.sampled_from([1, 3]),
        "stride": st.sampled_from([1, 1, 2]),
        "norm": st.sampled_from(NORMS),
        "activation": st.sampled_from(ACTIVATIONS),
        "skips": st.booleans(),
    }
)
SPECS = st.fixed_dictionaries(
    {
        "blocks": st.lists(BLOCKS, min_size=1, max_size=3),
        "size": st.tuples(st.integers(9, 13), st.integers(9, 13)),
        "pool": st.sampled_from(POOLS),
        "tails": st.lists(st.sampled_from(TAILS), max_size=3, unique=True),
        "answer": st.sampled_from(["plain", "plain", "tuple", "map"]),
        "double": st.booleans(),
        "training": st.booleans(),
        "seed": st.integers(0, 2**31),
    }
)


def state_of(network: nn.Module) -> dict[str, Any]:
    """Everything of a network that a use may not change."""
    return {
        "values": {k: v.clone() for k, v in network.state_dict().items()},
        "training": [module.training for module in network.modules()],
        "hooks": [len(module._forward_hooks) for module in network.modules()],
        "asked": [one.requires_grad for one in network.parameters()],
        "gradients": [
            None if one.grad is None else one.grad.clone()
            for one in network.parameters()
        ],
        "layout": [one.stride() for one in network.parameters()],
    }


def assert_same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in ("training", "hooks", "asked", "layout"):
        assert one[name] == other[name], name
    for key, value in one["values"].items():
        assert torch.equal(value, other["values"][key]), key
    for mine, theirs in zip(one["gradients"], other["gradients"], strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.equal(mine, theirs)


def independent_rest(model: EmbeddingModel, images: Tensor) -> Tensor:
    """What the head gives at zero, with what was held at the images put back."""
    images = images.to(model.dtype)
    info, records = model.find_layer(images), ReplayedHead()
    run_head(model, images, info, records)
    constant = run_head(model, images, info, ReplayedHead(records), at_zero=True)
    return constant.output.detach().float()


def test_random_networks() -> None:
    outcomes: Counter[str] = Counter()

    @fuzz(60)
    @given(spec=SPECS, metric=st.sampled_from(METRICS))
    def check(spec: dict[str, Any], metric: Metric) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(spec["seed"])
            network = Network(spec)
            randomize(network)
            for module in network.modules():
                # Without shifts, the mean of what is normalized is rounding.
                if isinstance(module, (nn.InstanceNorm2d, nn.GroupNorm)):
                    nn.init.normal_(module.bias)
            images = torch.randn(3, 3, *spec["size"])
        network = network.double() if spec["double"] else network
        network.train(spec["training"])
        for place, parameter in enumerate(network.parameters()):
            parameter.requires_grad_(place % 3 > 0)
            parameter.grad = torch.ones_like(parameter) if place % 2 else None
        before = state_of(network)
        model = EmbeddingModel(
            network,
            lambda image: image,
            metric=metric,
            embedding=1 if spec["answer"] == "tuple" else None,
        )
        try:
            head = model.linearize(images)
        except ModelError as error:
            outcomes[str(error)[-60:]] += 1
            assert_same_state(before, state_of(network))
            return
        if not bool((head.embedding.abs().sum(1) > 0).all()):
            # A run skips such images: nothing is like them.
            outcomes["zero"] += 1
            assert_same_state(before, state_of(network))
            return
        outcomes["explained"] += 1
        result = attribute(head, torch.tensor([0, 1]), head.embedding[[1, 2]], metric)
        alone = model.linearize(images[:1])
        single = attribute(alone, torch.tensor([0]), head.embedding[[1]], metric)
        plain = model.embed(images)
        assert_same_state(before, state_of(network))

        # The embedding is the network's own.
        with torch.no_grad():
            own = network.eval()(images.to(model.dtype))
        own = (own[1] if isinstance(own, tuple) else own).flatten(1).float()
        size = own.abs().max()
        assert (plain - own).abs().max() <= 1e-5 * size
        assert (head.embedding.float() - own).abs().max() <= 1e-5 * size
        # A batch is as its images one by one.
        for part in ("evidence", "sfam", "cis", "score"):
            one, many = getattr(single, part)[0], getattr(result, part)[0]
            scale = many.abs().max() + result.evidence[0].abs().sum()
            assert (one - many).abs().max() <= 1e-4 * scale + 1e-6, part
        # Evidence and an independent remainder add up to the score.
        partners = head.embedding[[1, 2]].float()
        cotangents = partners / normalizer(own[:2], partners, metric)[:, None]
        apart = (independent_rest(model, images)[:2] * cotangents).sum(1)
        total = result.evidence.sum((1, 2))
        scale = result.evidence.abs().sum((1, 2)) + apart.abs() + 1
        assert ((total + apart - result.score).abs() <= 1e-4 * scale).all()
        outcomes["complete"] += 1

    check()
    # Most can be explained; the others say why not.
    assert outcomes["complete"] >= 0.5 * sum(
        count for name, count in outcomes.items() if name != "explained"
    )
