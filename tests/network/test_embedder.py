"""A network is split at a layer, in one pass, and left as it was."""

from __future__ import annotations

import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import attribute, attribute_point
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.network.preprocess import Preprocessing
from networks import (
    CASES,
    CHANNELS,
    MAP,
    Answering,
    Auxiliary,
    AveragePooling,
    CalledTwice,
    Detached,
    FrozenBackbone,
    MaxPooling,
    Network,
    Overwritten,
    PooledHead,
    Trained,
    Transformer,
    build,
    images,
    randomize,
)

# Forward-mode differentiation loads torch's own scripted decompositions.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")

Named = namedtuple("Named", ["embedding", "logits"])


def as_is(image: Image.Image) -> Tensor:
    raise AssertionError("these tests prepare their images themselves")


def model_of(network: nn.Module, **options: Any) -> EmbeddingModel:
    return EmbeddingModel(network, as_is, **options)


def average_of(network: nn.Module, maps: str = "trunk") -> Tensor:
    """The embedding of networks that only average their maps."""
    return network.get_submodule(maps)(images(2)).mean((2, 3)).detach()


def count_calls(network: nn.Module) -> list[tuple[int, ...]]:
    """Note the shape of every batch that the network is run on."""
    calls: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(
        lambda _, inputs: calls.append(tuple(inputs[0].shape))
    )
    return calls


# --------------------------------------------------------------------------------------
# Feature map and embedding
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_linearize_gives_feature_map_and_embedding(name: str) -> None:
    case = build(name)
    head = model_of(case.network, layer=case.layer).linearize(images(3))
    with torch.no_grad():
        torch.testing.assert_close(head.embedding, case.network(images(3)))
        torch.testing.assert_close(case.head(head.feature_map), head.embedding)
    assert tuple(head.feature_map.shape) == (3, *MAP)


@pytest.mark.parametrize("name", CASES)
def test_embed_gives_the_networks_output(name: str) -> None:
    case = build(name)
    with torch.no_grad():
        expected = case.network(images(3))
    found = model_of(case.network).embed(images(3))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not found.requires_grad


def test_one_forward_pass_whatever_is_asked_of_it() -> None:
    network = build("bn neck").network
    model = model_of(network)
    model.find_layer(images(5))
    calls = count_calls(network)
    head = model.linearize(images(5))
    assert calls == [(5, 3, 8, 6)]
    attribute(head, torch.arange(5).repeat(3), torch.randn(15, 24))
    attribute_point(head, 0, (1, 1), head, 1)
    model.embed(images(2))
    assert calls == [(5, 3, 8, 6), (2, 3, 8, 6)]


def test_finding_the_layer_runs_few_images_once() -> None:
    network = build("average").network
    model = model_of(network)
    calls = count_calls(network)
    model.linearize(images(5))
    # One run to see how it likes two images, one to see which layers show the image,
    # one to see which carry everything, one to see that the embedding depends on it.
    one = (1, 3, 8, 6)
    assert calls == [(2, 3, 8, 6), (9, 3, 8, 6), one, one, (5, 3, 8, 6)]
    model.linearize(images(4))
    assert calls[5:] == [(4, 3, 8, 6)]


def test_only_the_head_is_recorded() -> None:
    network = build("average and linear").network
    head = model_of(network).linearize(images(2))
    nodes, todo = set(), [head.output.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            todo += [following for following, _ in node.next_functions]
    names = {node.name() for node in nodes}
    assert "AddmmBackward0" in names
    assert not {name for name in names if "Convolution" in name}
    # Its one end is the feature map: no parameter is there to be given a gradient.
    assert [node.variable is head.leaf for node in nodes if hasattr(node, "variable")]
    assert sum(hasattr(node, "variable") for node in nodes) == 1


def test_half_precision() -> None:
    network = build("average and linear").network
    expected = network(images(2)).detach()
    model = model_of(network.half())
    assert model.dtype == torch.float16
    assert model.embed(images(2)).dtype == torch.float32
    head = model.linearize(images(2))
    assert head.embedding.dtype == head.feature_map.dtype == torch.float32
    torch.testing.assert_close(head.embedding, expected, rtol=0.02, atol=0.02)
    result = attribute(head, torch.tensor([0, 1]), expected[[1, 0]])
    assert result.evidence.abs().sum() > 0.01


def test_double_precision() -> None:
    network = build("average").network.double()
    head = model_of(network).linearize(images(2))
    assert head.embedding.dtype == torch.float64
    assert attribute(head, torch.tensor([0]), head.embedding[[1]]).score.dtype == (
        torch.float32
    )


def test_network_without_parameters() -> None:
    network = nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    model = model_of(network)
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")
    head = model.linearize(images(2))
    assert model.layer == "0"
    torch.testing.assert_close(head.embedding, network(images(2)))


# --------------------------------------------------------------------------------------
# Which layer
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("average", "trunk"),
        ("flatten and linear", "trunk"),
        ("bn neck", "trunk"),
        # The gate's weights are a map as well, but they do not carry everything.
        ("gated", "trunk"),
        ("earlier layer", "head.convolution"),
        ("called twice", "shared"),
    ],
)
def test_the_last_map_is_found(name: str, layer: str) -> None:
    model = model_of(build(name).network)
    assert model.layer is None
    assert model.find_layer(images(2)).name == layer
    assert model.layer == layer
    assert model.requested_layer is None


def test_maps_of_one_position_are_passed_over() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1), nn.Flatten()
    )
    assert model_of(network).find_layer(images(1)) == LayerInfo("0", (4, 6, 4), 1)


def test_a_branch_beside_the_embedding_is_passed_over() -> None:
    network = Auxiliary()
    model = model_of(network)
    found = model.linearize(images(2))
    assert network.branch_maps == (2, 2, 4, 3)
    assert model.layer == "trunk"
    torch.testing.assert_close(found.embedding, average_of(network))


def test_layer_info() -> None:
    model = model_of(CalledTwice())
    assert model.find_layer(images(2)) == LayerInfo("shared", MAP, 2)
    assert [(info.name, info.calls) for info in model.layers(images(2))] == [
        ("stem", 1),
        ("shared", 2),
    ]


def test_layers_are_listed_in_the_order_in_which_they_run() -> None:
    listed = model_of(build("earlier layer").network).layers(images(2))
    assert [info.name for info in listed] == [
        "trunk.0",
        "trunk.1",
        "trunk",
        "head.convolution",
    ]
    assert listed[-1].shape == (5, 4, 3)


def test_the_last_of_several_runs_of_a_module_is_explained() -> None:
    network = CalledTwice()
    head = model_of(network, layer="shared").linearize(images(2))
    with torch.no_grad():
        last = network.shared(network.shared(network.stem(images(2))).relu())
    torch.testing.assert_close(head.feature_map, last)


def test_named_layer() -> None:
    network = build("earlier layer").network
    model = model_of(network, layer="trunk.0")
    assert model.layer == model.requested_layer == "trunk.0"
    with torch.no_grad():
        expected = network.trunk[0](images(2))
    torch.testing.assert_close(model.linearize(images(2)).feature_map, expected)


def test_layer_whose_output_is_a_sequence() -> None:
    class Backbone(nn.Module):
        def __init__(self, pack: Callable[..., Any]) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, CHANNELS, 3)
            self.pack = pack

        def forward(self, batch: Tensor) -> Any:
            maps = self.convolution(batch)
            return self.pack(maps, maps.mean())

    class Whole(nn.Module):
        def __init__(self, pack: Callable[..., Any]) -> None:
            super().__init__()
            self.backbone = Backbone(pack)
            self.types: list[type] = []

        def forward(self, batch: Tensor) -> Tensor:
            output = self.backbone(batch)
            self.types.append(type(output))
            return output[0].mean((2, 3))

    for pack in (lambda *items: items, lambda *items: list(items), Named):
        network = Whole(pack)
        model = model_of(network)
        head = model.linearize(images(2))
        assert model.layer == "backbone"
        assert set(network.types) == {type(pack(0, 0))}
        (gradient,) = torch.autograd.grad(head.output.sum(), head.leaf)
        torch.testing.assert_close(gradient, torch.full((2, 4, 6, 4), 1 / 24))


def test_with_layer() -> None:
    network = build("bn neck").network
    model = model_of(network, metric="euclidean", name="mine")
    model.find_layer(images(1))
    other = model.with_layer("trunk.0")
    assert other.network is network
    assert (other.name, other.metric, other.layer) == ("mine", "euclidean", "trunk.0")
    assert other.preprocess is model.preprocess
    assert model.layer == "trunk"
    assert other.with_layer(None).find_layer(images(1)).name == "trunk"
    kept = model_of(Answering(lambda e: {"e": e}), embedding="e").with_layer("trunk")
    assert tuple(kept.embed(images(2)).shape) == (2, CHANNELS)


def test_a_backbone_that_is_run_without_gradients() -> None:
    network = FrozenBackbone()
    model = model_of(network)
    head = model.linearize(images(2))
    assert model.layer == "backbone"
    result = attribute(head, torch.tensor([0]), head.embedding[[1]])
    bias = (network.head.bias * head.embedding[1]).sum() / head.embedding.norm(
        dim=1
    ).prod()
    torch.testing.assert_close(result.remainder[0], bias.detach())


# --------------------------------------------------------------------------------------
# Which embedding
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pack", "key"),
    [
        (lambda e: {"embedding": e, "logits": e[:, :1]}, "embedding"),
        (lambda e: (e[:, :1], e), 1),
        (lambda e: [e, e[:, :1]], 0),
        (lambda e: Named(e, e[:, :1]), 0),
        (lambda e: OrderedDict(first=e[:, :1], last=e), "last"),
        (lambda e: e[:, :, None, None], None),
    ],
)
def test_embedding_among_other_outputs(
    pack: Callable[[Tensor], Any], key: str | int | None
) -> None:
    network = Answering(pack)
    model = model_of(network, embedding=key)
    torch.testing.assert_close(model.embed(images(2)), average_of(network))
    assert tuple(model.linearize(images(2)).feature_map.shape) == (2, *MAP)


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (
            lambda e: {"logits": e},
            r"returned a mapping of 'logits': a tensor of shape \(2, 4\); .*embedding=",
        ),
        (
            lambda e: (e, e + 1),
            r"a tuple of 0: a tensor of shape \(2, 4\), 1: a tensor of .*embedding=",
        ),
        (lambda e: e.tolist(), r"returned a list of 0: a list .*embedding="),
        (lambda _: None, r"model 'Answering' returned NoneType; say with embedding="),
        (lambda e: e.sum(1), r"returned shape \(2,\) for a batch of 2; \(batch, emb"),
        (lambda e: e[:1], r"returned shape \(1, 4\) for a batch of 2"),
    ],
)
def test_output_that_is_no_embedding(
    pack: Callable[[Tensor], Any], message: str
) -> None:
    model = model_of(Answering(pack))
    with pytest.raises(ModelError, match=message):
        model.embed(images(2))


@pytest.mark.parametrize(
    ("pack", "key", "message"),
    [
        (lambda e: {"logits": e}, "embedding", r"no entry 'embedding'; it is a map"),
        (lambda e: (e,), 3, r"model 'Answering' has no entry 3; it is a tuple of 0: a"),
        (lambda e: (e,), "embedding", r"no entry 'embedding'; it is a tuple of"),
    ],
)
def test_missing_entry(
    pack: Callable[[Tensor], Any], key: str | int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        model_of(Answering(pack), embedding=key).embed(images(2))


def test_embedding_layer() -> None:
    network = build("earlier layer").network
    model = model_of(network, embedding_layer="head.pooling")
    with torch.no_grad():
        expected = network.head.convolution(network.trunk(images(2))).relu()
    torch.testing.assert_close(model.embed(images(2)), expected.mean((2, 3)))
    head = model.linearize(images(2))
    assert model.layer == "head.convolution"
    torch.testing.assert_close(head.embedding, expected.mean((2, 3)))
    assert model.with_layer("trunk").embed(images(2)).shape == (2, 5)


def test_embedding_layer_that_does_not_run() -> None:
    network = build("average").network
    network.unused = nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"embedding layer 'unused' .* did not run"):
        model_of(network, embedding_layer="unused").embed(images(1))


def test_a_layer_behind_the_embedding_is_passed_over() -> None:
    network = build("earlier layer").network
    model = model_of(network, embedding_layer="trunk")
    assert model.find_layer(images(1)).name == "trunk"


# --------------------------------------------------------------------------------------
# Wrappers
# --------------------------------------------------------------------------------------


def test_data_parallel_is_taken_off() -> None:
    network = build("average").network
    model = model_of(nn.DataParallel(network), layer="trunk")
    assert model.network is network
    assert model.name == "Network"


def test_compiled_network_is_run_as_it_was() -> None:
    network = build("average").network
    model = model_of(torch.compile(nn.DataParallel(torch.compile(network))))
    assert model.network is network


@pytest.mark.parametrize("network", [None, "resnet18", nn.Module, len])
def test_no_network(network: Any) -> None:
    with pytest.raises(ModelError, match=r"the network is \w+; a torch.nn.Module is"):
        model_of(network)


def test_unknown_metric() -> None:
    with pytest.raises(ModelError, match=r"'l2'; use one of cosine, euclidean"):
        model_of(nn.Identity(), metric="l2")


def test_preprocessing_that_cannot_be_called() -> None:
    with pytest.raises(ModelError, match=r"preprocess is None; give a function"):
        EmbeddingModel(nn.Identity(), None)


# --------------------------------------------------------------------------------------
# The network is left as it was
# --------------------------------------------------------------------------------------


def state(network: nn.Module) -> list[Any]:
    """Everything that a use of the network could leave changed."""
    return [
        [(name, module.training) for name, module in network.named_modules()],
        [
            (len(module._forward_hooks), len(module._forward_pre_hooks))
            for module in network.modules()
        ],
        [
            (len(module._backward_hooks), len(module._backward_pre_hooks))
            for module in network.modules()
        ],
        [
            (name, parameter.requires_grad, parameter.grad, parameter._version)
            for name, parameter in network.named_parameters()
        ],
        [(name, value.tolist()) for name, value in network.state_dict().items()],
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    ]


def half_trained() -> Trained:
    """A network in a mixture of modes, with a frozen parameter among others."""
    torch.manual_seed(0)
    network = Trained()
    randomize(network)
    network.train()
    network.norm.eval()
    network.trunk.bias.requires_grad_(False)
    return network


def uses(model: EmbeddingModel) -> dict[str, Callable[[], object]]:
    def explain() -> None:
        head = model.linearize(images(3))
        attribute(head, torch.tensor([0, 0, 1]), head.embedding[[1, 2, 2]])
        attribute_point(head, 0, (0, 0), head, 1)

    return {
        "embed": lambda: model.embed(images(3)),
        "find_layer": lambda: model.find_layer(images(3)),
        "layers": lambda: model.layers(images(3)),
        "explain": explain,
        "weights_hash": model.weights_hash,
        "with_layer": lambda: model.with_layer("trunk").linearize(images(3)),
    }


MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "plain": nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use", uses(model_of(nn.Identity())))
def test_every_use_leaves_the_network_as_it_was(use: str, mode: str) -> None:
    network = half_trained()
    with MODES[mode]():
        before = state(network)
        uses(model_of(network))[use]()
        assert state(network) == before


@pytest.mark.parametrize("mode", MODES)
def test_use_in_a_gradient_mode_of_the_callers(mode: str) -> None:
    model = model_of(half_trained())
    reference = model.linearize(images(3))
    with MODES[mode]():
        # Images that inference mode has made are another kind of tensor.
        found = model.linearize(images(3) * 1)
        result = attribute(found, torch.tensor([0]), found.embedding[[1]])
        point = attribute_point(found, 0, (1, 1), found, 1)
        torch.testing.assert_close(model.embed(images(3) * 1), reference.embedding)
    torch.testing.assert_close(found.feature_map, reference.feature_map)
    expected = attribute(reference, torch.tensor([0]), reference.embedding[[1]])
    torch.testing.assert_close(result.evidence, expected.evidence)
    torch.testing.assert_close(
        point, attribute_point(reference, 0, (1, 1), reference, 1)
    )


def test_inference_mode_and_a_layer_that_passes_its_input_on() -> None:
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.inference_mode():
        batch = images(2) * 1
        assert batch.is_inference()
        head = model_of(network).linearize(batch)
    torch.testing.assert_close(head.embedding, images(2).mean((2, 3)))
    torch.testing.assert_close(
        head.vjp(torch.ones(2, 3)), torch.full((2, 3, 8, 6), 1 / 48)
    )


def test_evaluation_mode_while_it_runs() -> None:
    network = half_trained()
    model = model_of(network)
    network.eval()
    expected = network(images(3)).detach()
    network.train()
    torch.testing.assert_close(model.embed(images(3)), expected)
    torch.testing.assert_close(model.linearize(images(3)).embedding, expected)


class Failing(nn.Module):
    """Fails in its head, once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = half_trained()
        self.tail = nn.Conv2d(3, 4, 1)
        self.error: BaseException | None = None

    def forward(self, batch: Tensor) -> Tensor:
        maps = self.tail(batch)
        if self.error is not None:
            raise self.error
        return maps.mean((2, 3)) + self.trunk(batch)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("no such thing"), ModelError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["known layer", "unknown layer"])
@pytest.mark.parametrize("use", ["embed", "layers", "explain"])
def test_failures_leave_the_network_as_it_was(
    use: str, known: bool, error: BaseException, raised: type[BaseException]
) -> None:
    network = Failing()
    model = model_of(network)
    if known:
        model.find_layer(images(1))
    before = state(network)
    network.error = error
    with pytest.raises(raised):
        uses(model)[use]()
    assert state(network) == before


def test_gradients_of_a_training_in_progress_are_kept() -> None:
    network = half_trained()
    network(images(3)).sum().backward()
    before = {
        name: value.grad.clone()
        for name, value in network.named_parameters()
        if value.grad is not None
    }
    assert before
    uses(model_of(network))["explain"]()
    for name, value in network.named_parameters():
        if name in before:
            torch.testing.assert_close(value.grad, before[name], rtol=0, atol=0)
        else:
            assert value.grad is None


# --------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("convolution", [False, True])
def test_a_transformer_is_explained_where_its_tokens_enter_the_first_block(
    convolution: bool,
) -> None:
    model = model_of(Transformer(convolution=convolution))
    head = model.linearize(images(2))
    layer, layout = ("patches", "NCHW") if convolution else ("projection", "tokens")
    assert model.find_layer(images(2)) == LayerInfo(layer, (8, 4, 3), 1, layout)
    torch.testing.assert_close(head.embedding, model.embed(images(2)))
    # The order of the mixed tokens is not seen any more, so it has to be said.
    last = model_of(model.network, layer="block", layout="tokens", prefix_tokens=0)
    assert last.find_layer(images(2)).shape == (8, 4, 3)
    # After the block there is only the average of the tokens.
    end = last.linearize(images(2))
    assert tuple(end.feature_map.shape) == (2, 8, 4, 3)
    result = attribute(end, torch.tensor([0]), end.embedding[[1]])
    torch.testing.assert_close(result.evidence.sum((1, 2)), result.score)


@pytest.mark.parametrize("option", ["layer", "embedding_layer"])
def test_unknown_layer_suggests_others(option: str) -> None:
    network = build("earlier layer").network
    with pytest.raises(
        ModelError,
        match=r"'Network' has no layer 'head.convolutoin'; did you mean "
        r"'head.convolution'",
    ):
        model_of(network, **{option: "head.convolutoin"})
    with pytest.raises(ModelError, match=r"no layer ''; did you mean '"):
        model_of(network, **{option: ""})
    with pytest.raises(ModelError, match=r"no layer 'x'; it has no modules inside"):
        model_of(nn.Identity(), **{option: "x"})


def test_unknown_layer_of_with_layer() -> None:
    with pytest.raises(ModelError, match=r"'trunc'; did you mean 'trunk'"):
        model_of(build("average").network).with_layer("trunc")


def test_layer_after_the_pooling() -> None:
    network = build("earlier layer").network
    hint = r"name a layer before the pooling \(by default it is 'head.conv"
    with pytest.raises(
        ModelError, match=r"'head.neck' .*returns shape \(9, 6\), .*" + hint
    ):
        model_of(network, layer="head.neck").linearize(images(2))
    with pytest.raises(
        ModelError, match=r"'head.pooling' .* a map of a single position; " + hint
    ):
        model_of(network, layer="head.pooling").linearize(images(2))


def test_layer_that_returns_no_tensor_or_does_not_run() -> None:
    network = Network(Answering(lambda e: e))
    network.trunk = nn.Identity()
    network.unused = nn.Conv2d(1, 1, 1)
    with pytest.raises(
        ModelError,
        match=r"'unused' .* did not run .* \(by default it is 'head\.",
    ):
        model_of(network, layer="unused").linearize(images(2))


def test_layer_that_the_embedding_does_not_depend_on() -> None:
    with pytest.raises(
        ModelError, match=r"'Auxiliary' does not depend on layer 'branch'"
    ):
        model_of(Auxiliary(), layer="branch").linearize(images(2))
    with pytest.raises(
        ModelError, match=r"does not depend on layer 'trunk', or .* without a gradient"
    ):
        model_of(Detached(), layer="trunk").linearize(images(2))
    with pytest.raises(ModelError, match=r"'Detached' has no layer .* depends on"):
        model_of(Detached()).linearize(images(2))


def test_head_that_cannot_be_differentiated() -> None:
    network = Overwritten()
    with pytest.raises(
        ModelError, match=r"after layer 'trunk' cannot be differentiated \(one of the"
    ):
        model_of(network).linearize(images(2))


def test_wrong_input_size() -> None:
    model = model_of(build("flatten and linear").network)
    for use in (model.embed, model.linearize, model.layers):
        with pytest.raises(
            ModelError,
            match=r"'Network' failed on an input of shape \(1, 3, 8, 8\) \(.*48.*\); "
            r"check that its preprocessing gives the size",
        ):
            use(torch.zeros(1, 3, 8, 8))


def test_input_too_small_for_a_map() -> None:
    model = model_of(build("average").network)
    model.find_layer(images(1))
    with pytest.raises(
        ModelError, match=r"'trunk' .* \(1, 4, 1, 1\) on an input of .*larger images"
    ):
        model.linearize(torch.zeros(1, 3, 2, 2))


def test_layer_that_no_longer_runs() -> None:
    network = build("average").network
    model = model_of(network)
    model.find_layer(images(1))
    network.forward = lambda batch: batch.mean((2, 3))
    with pytest.raises(ModelError, match=r"'trunk' of model 'Network' did not run on"):
        model.linearize(images(2))


def test_running_out_of_memory_is_not_the_preprocessings_fault() -> None:
    network = Failing()
    network.error = torch.cuda.OutOfMemoryError("out of memory")
    with pytest.raises(torch.cuda.OutOfMemoryError):
        model_of(network).embed(images(1))


def test_an_error_without_words() -> None:
    network = Failing()
    network.error = ValueError()
    with pytest.raises(ModelError, match=r"\(1, 3, 8, 6\) \(ValueError\); run network"):
        model_of(network).embed(images(1))


# --------------------------------------------------------------------------------------
# Weights and images
# --------------------------------------------------------------------------------------


def test_weights_hash_is_that_of_the_weights() -> None:
    network = half_trained()
    model = model_of(network)
    first = model.weights_hash()
    assert len(first) == 16
    assert int(first, 16) >= 0
    network.eval()
    model.linearize(images(2))
    assert model.weights_hash() == first == model_of(half_trained()).weights_hash()
    assert model.with_layer("trunk").weights_hash() == first
    with torch.no_grad():
        network.trunk.bias[-1] += 1e-3
    second = model.weights_hash()
    network.norm.running_mean[-1] += 1e-3
    third = model.weights_hash()
    network.norm.num_batches_tracked += 1
    fourth = model.weights_hash()
    assert len({first, second, third, fourth}) == 4


def test_weights_hash_tells_types_names_and_shapes_apart() -> None:
    def of(**values: Tensor) -> str:
        network = nn.Module()
        for name, value in values.items():
            network.register_buffer(name, value)
        return model_of(network).weights_hash()

    zeros = torch.zeros(4)
    variants = [
        of(),
        of(a=zeros),
        of(b=zeros),
        of(a=zeros.reshape(2, 2)),
        of(a=zeros.int()),
        of(a=zeros.bfloat16()),
        of(a=zeros[:0]),
        of(a=zeros[0]),
        of(a=zeros, b=torch.tensor(True)),
    ]
    assert len(set(variants)) == len(variants)


def test_prepare() -> None:
    model = EmbeddingModel(nn.Identity(), Preprocessing((8, 6)))
    assert tuple(model.prepare(Image.new("L", (30, 20))).shape) == (3, 8, 6)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.zeros(1, 3, 8, 6), r"'Identity' returned shape \(1, 3, 8, 6\); \(3, h"),
        (torch.zeros(8, 6), r"returned shape \(8, 6\); \(3, height, width\) is"),
        ([1.0], r"preprocessing of model 'Identity' returned list; a \(3, height"),
    ],
)
def test_prepare_with_a_wrong_preprocessing(answer: Any, message: str) -> None:
    model = EmbeddingModel(nn.Identity(), lambda _: answer)
    with pytest.raises(ModelError, match=message):
        model.prepare(Image.new("RGB", (4, 4)))


def test_crop_box_is_the_preprocessings_or_all_of_the_image() -> None:
    assert model_of(nn.Identity()).crop_box(40, 20) == (0.0, 0.0, 40.0, 20.0)
    cropping = EmbeddingModel(nn.Identity(), Preprocessing((8, 8), resize=(16, 32)))
    # The middle half of the height and the middle quarter of the width.
    assert cropping.crop_box(40, 20) == (15.0, 5.0, 25.0, 15.0)


def test_device_option_moves_the_network() -> None:
    network = build("average").network
    assert model_of(network, device="meta").device.type == "meta"
    assert network.trunk[0].weight.is_meta


# --------------------------------------------------------------------------------------
# Real embedders
# --------------------------------------------------------------------------------------

# Remainders of the query, and scores, of the first two images of the first person.
REAL: dict[str, tuple[float, float]] = {
    "hse_faceres_mobilenetv1": (0.0, 0.662),
    "mobilefacenet": (-0.050, 0.652),
    "dlib_resnet": (0.0, 0.944),
    "osnet_x0_25_msmt17": (0.173, 0.823),
}


@pytest.mark.parametrize("name", REAL)
def test_real_embedders(
    name: str, assets_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(assets_dir))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    from reference_models import REFERENCE_MODELS, load_reference_model

    network = load_reference_model(name, assets_dir)
    folder = assets_dir / "data" / REFERENCE_MODELS[name].data_folder
    files = sorted(folder.rglob("*.jpg"))[:2]
    assert files[0].name.split("_")[:-2] == files[1].name.split("_")[:-2] or (
        files[0].name[:4] == files[1].name[:4]
    )
    model = EmbeddingModel(network, network.preprocess, metric=network.metric)
    batch = torch.stack([model.prepare(Image.open(file)) for file in files])
    calls = count_calls(network)
    head = model.linearize(batch)
    # The 2 x 2 map of dlib's network is checked on a larger image as well.
    assert len(calls) == (6 if name == "dlib_resnet" else 5)
    assert model.layer == network.last_conv_stage
    with torch.no_grad():
        maps = network.features(batch)
    torch.testing.assert_close(head.feature_map, maps, rtol=1e-4, atol=1e-4)

    result = attribute(head, torch.tensor([0, 1]), head.embedding[[1, 0]], model.metric)
    remainder, score = REAL[name]
    assert result.score.tolist() == pytest.approx([score, score], abs=5e-4)
    assert float(result.remainder[0]) == pytest.approx(remainder, abs=5e-4)
    # The remainder that the map leaves, in forward mode.
    _, carried = torch.func.jvp(network.head, (maps,), (maps,))
    partner = head.embedding[1]
    lengths = head.embedding.norm(dim=1)
    z = lengths.prod() if model.metric == "cosine" else lengths.square().sum() / 2
    apart = ((head.embedding[0] - carried[0].detach()) * partner).sum() / z
    assert float(result.evidence[0].sum() + apart) == pytest.approx(
        float(result.score[0]), rel=1e-4
    )


@pytest.mark.parametrize("layer", ["conv256_2", "conv128_2"])
def test_real_embedder_at_earlier_layers(
    layer: str, assets_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(assets_dir))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    from reference_models import load_reference_model

    network = load_reference_model("dlib_resnet", assets_dir)
    folder = assets_dir / "data" / "lfw_subset_chips150"
    file = sorted(folder.rglob("*.jpg"))[0]
    model = EmbeddingModel(network, network.preprocess, layer=layer)
    prepared = model.prepare(Image.open(file))[None]
    head = model.linearize(prepared)
    # Cut at the layer, the network is still the same.
    torch.testing.assert_close(head.embedding, model.embed(prepared))
    assert (
        tuple(head.feature_map.shape)
        == {
            "conv256_2": (1, 256, 4, 4),
            "conv128_2": (1, 128, 8, 8),
        }[layer]
    )
    # Backward mode is the transpose of forward mode.
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(head.embedding.shape, generator=generator)
    maps = torch.randn(head.feature_map.shape, generator=generator)
    forward = float((rows * head.jvp(maps)).sum())
    assert forward != 0
    assert float((head.vjp(rows) * maps).sum()) == pytest.approx(forward, rel=1e-4)


def test_helpers_are_what_they_say() -> None:
    """The networks of these tests: their maps, and their heads."""
    maps = build("average").network.trunk(images(1))
    torch.testing.assert_close(AveragePooling()(maps), maps.flatten(2).mean(2))
    torch.testing.assert_close(MaxPooling()(maps), maps.flatten(2).max(2).values)
    assert tuple(PooledHead()(maps).shape) == (1, 6)
