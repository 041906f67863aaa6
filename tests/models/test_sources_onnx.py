"""ONNX files as networks of torch: the same embeddings, batches of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

from fiftyone_sfam.errors import ModelError, SfamWarning
from fiftyone_sfam.models import load_model
from fiftyone_sfam.network.preprocess import Preprocessing

HALF: Any = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
SIZE = (16, 8)


def reference(file: Path, images: Tensor) -> NDArray[np.float32]:
    """Run onnxruntime on one image after the other."""
    session = onnxruntime.InferenceSession(str(file))
    name = session.get_inputs()[0].name
    outputs = [session.run(None, {name: image[None].numpy()})[0] for image in images]
    return np.concatenate(outputs)


def noise(batch: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0)) - 0.5


@pytest.mark.parametrize(
    ("name", "size", "features", "layer"),
    [
        ("mobilefacenet_112_fixed_batch.onnx", (112, 112), 128, "conv2/conv2/2/Clip"),
        ("osnet_x0_25_msmt17_dynamic_batch.onnx", (256, 128), 512, "conv5/relu/Relu"),
    ],
)
def test_embeddings_are_those_of_onnxruntime(
    assets_dir: Path, name: str, size: tuple[int, int], features: int, layer: str
) -> None:
    file = assets_dir / "weights" / name
    model = load_model(f"onnx:{file}", **HALF)
    assert model.name == f"onnx:{name}"
    assert model.preprocess == Preprocessing(size, **HALF)
    images = 2 * noise(5, size)
    expected = reference(file, images)
    assert expected.shape == (5, features)
    for batch in (1, 5):
        embeddings = model.embed(images[:batch]).numpy()
        assert embeddings.shape == (batch, features)
        assert np.abs(embeddings - expected[:batch]).max() < 1e-4
    assert isinstance(model.network, fx.GraphModule)
    assert isinstance(model.network.get_submodule(layer), nn.Module)


# -- graphs by hand --------------------------------------------------------------------


class Graph:
    """Collects nodes and weights, with random weights where only a shape is given."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(0)

    def weight(self, *shape: int, least: float = -0.5) -> str:
        values = self._random.uniform(least, least + 1, shape)
        return self.constant(values.astype(np.float32))

    def constant(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"v{len(self.nodes)}"
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, list(inputs), [output], name, **attributes)
        )
        return output

    def conv(self, channels: int = 6) -> str:
        """Add a convolution of the image and a ReLU: (n, channels, 8, 4)."""
        weight = self.weight(channels, 3, 3, 3)
        conv = self.add("Conv", "image", weight, strides=[2, 2], pads=[1, 1, 1, 1])
        return self.add("Relu", conv)

    def normed(self, value: str, features: int) -> str:
        """Add batch normalization."""
        weights = [self.weight(features, least=least) for least in (0.5, -1, -1, 0.5)]
        return self.add("BatchNormalization", value, *weights)

    def save(
        self,
        file: Path,
        *outputs: str,
        image: Sequence[Any] = ("n", 3, *SIZE),
        opset: int = 13,
    ) -> Path:
        floats = TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("image", floats, list(image))],
            [helper.make_tensor_value_info(name, floats, None) for name in outputs],
            self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )
        onnx.save(model, file)
        return file


def assert_same(file: Path, **options: Any) -> fx.GraphModule:
    """Compare a file with onnxruntime, with batches of one and three."""
    images = noise(3)
    expected = reference(file, images)
    model = load_model(f"onnx:{file}", **{**HALF, **options})
    for batch in (1, 3):
        embeddings = model.embed(images[:batch]).numpy()
        np.testing.assert_allclose(embeddings, expected[:batch], atol=1e-5, rtol=1e-4)
    assert isinstance(model.network, fx.GraphModule)
    return model.network


@pytest.mark.parametrize("shape", [[1, -1], [1, 6], [-1, 6], [0, 6]], ids=str)
def test_reshapes_that_fix_the_batch(tmp_path: Path, shape: list[int]) -> None:
    graph = Graph()
    pooled = graph.add("GlobalAveragePool", graph.conv())
    flat = graph.add("Reshape", pooled, graph.constant(np.array(shape)))
    assert_same(graph.save(tmp_path / "x.onnx", flat, image=(1, 3, *SIZE)))


def test_a_batch_of_four(tmp_path: Path) -> None:
    graph = Graph()
    pooled = graph.add("GlobalAveragePool", graph.conv())
    flat = graph.add("Reshape", pooled, graph.constant(np.array([4, 6])))
    file = graph.save(tmp_path / "x.onnx", flat, image=(4, 3, *SIZE))
    images = noise(4)
    session = onnxruntime.InferenceSession(str(file))
    [expected] = session.run(None, {"image": images.numpy()})
    model = load_model(f"onnx:{file}", **HALF)
    for batch in (1, 3, 4):
        embeddings = model.embed(images[:batch]).numpy()
        np.testing.assert_allclose(embeddings, expected[:batch], atol=1e-5, rtol=1e-4)


def test_a_shape_for_several_reshapes(tmp_path: Path) -> None:
    """Tokens (n, 32, 6): what is reshaped to them is not always a batch."""
    graph = Graph()
    tokens = graph.constant(np.array([1, 6, 32]))
    image = graph.add("Reshape", graph.conv(), tokens)
    bias = graph.add("Reshape", graph.weight(6, 32), tokens)
    total = graph.add("Add", image, bias)
    mean = graph.add("ReduceMean", total, axes=[2], keepdims=0)
    assert_same(graph.save(tmp_path / "x.onnx", mean, image=(1, 3, *SIZE)))


@pytest.mark.parametrize("opset", [9, 14, 15, 17])
def test_batch_normalization_after_gemm(tmp_path: Path, opset: int) -> None:
    """As torchreid's heads are exported: the rank of what enters Gemm is computed."""
    graph = Graph()
    pooled = graph.add("GlobalAveragePool", graph.conv())
    sizes = graph.add("Shape", pooled)
    batch = graph.add("Gather", sizes, graph.constant(np.array([0])), axis=0)
    shape = graph.add("Concat", batch, graph.constant(np.array([-1])), axis=0)
    flat = graph.add("Reshape", pooled, shape)
    linear = graph.add("Gemm", flat, graph.weight(5, 6), graph.weight(5), transB=1)
    normed = graph.normed(linear, 5)
    network = assert_same(graph.save(tmp_path / "x.onnx", normed, opset=opset))
    assert isinstance(network.get_submodule(graph.nodes[-1].name), nn.BatchNorm1d)


@pytest.mark.parametrize("opset", [18, 20, 22])
def test_newer_sets_of_operators(tmp_path: Path, opset: int) -> None:
    """onnx2torch knows the operators up to opset 17; torch exports newer ones."""
    graph = Graph()
    value = graph.normed(graph.conv(6), 6)
    axes = graph.constant(np.array([2, 3]))
    mean = graph.add("ReduceMean", value, axes, keepdims=1)
    flat = graph.add("Reshape", mean, graph.constant(np.array([0, -1])))
    linear = graph.add("Gemm", flat, graph.weight(5, 6), graph.weight(5), transB=1)
    normed = graph.normed(linear, 5)
    network = assert_same(graph.save(tmp_path / "x.onnx", normed, opset=opset))
    # Nodes keep their names.
    assert isinstance(network.get_submodule(graph.nodes[0].name), nn.Conv2d)


def test_operators_that_only_a_newer_set_has(tmp_path: Path) -> None:
    graph = Graph()
    gelu = graph.add("Gelu", graph.conv(6))
    flat = graph.add("Flatten", graph.add("GlobalAveragePool", gelu))
    file = graph.save(tmp_path / "x.onnx", flat, opset=20)
    with pytest.raises(ModelError) as caught:
        load_model(f"onnx:{file}")
    assert str(caught.value) == (
        f"the ONNX file {file} has opset 20, and cannot be rewritten in opset 17, the "
        "newest that onnx2torch knows (No Previous Version of Gelu exists); export it "
        "with opset 17."
    )


@pytest.mark.parametrize("batch", [1, "None"])
def test_iresnet_of_insightface(tmp_path: Path, batch: Any) -> None:
    """The operators of its packs: PRelu, a shortcut, Flatten, Gemm and both norms."""
    graph = Graph()
    first = graph.normed(graph.conv(6), 6)
    conv = graph.add("Conv", first, graph.weight(6, 6, 3, 3), pads=[1, 1, 1, 1])
    total = graph.add("Add", graph.add("PRelu", conv, graph.weight(6, 1, 1)), first)
    flat = graph.add("Flatten", graph.normed(total, 6), axis=1)
    linear = graph.add("Gemm", flat, graph.weight(5, 192), graph.weight(5), transB=1)
    normed = graph.normed(linear, 5)
    assert_same(graph.save(tmp_path / "x.onnx", normed, image=(batch, 3, *SIZE)))


@pytest.mark.parametrize("batch", [1, "n"])
def test_a_transformer_with_a_class_token(tmp_path: Path, batch: Any) -> None:
    graph = Graph()
    shape = graph.constant(np.array([1 if batch == 1 else 0, 6, 32]))
    tokens = graph.add("Reshape", graph.conv(6), shape)
    tokens = graph.add("Transpose", tokens, perm=[0, 2, 1])
    if batch == 1:
        # Exported with one image, the token is a constant.
        tokens = graph.add("Concat", graph.weight(1, 1, 6), tokens, axis=1)
    weights = graph.weight(6), graph.weight(6)
    normed = graph.add("LayerNormalization", tokens, *weights, axis=-1)
    keys = graph.add("Transpose", normed, perm=[0, 2, 1])
    attention = graph.add("Softmax", graph.add("MatMul", normed, keys), axis=-1)
    mixed = graph.add("Add", tokens, graph.add("MatMul", attention, normed))
    token = graph.add("Gather", mixed, graph.constant(np.array(0)), axis=1)
    file = graph.save(tmp_path / "x.onnx", token, image=(batch, 3, *SIZE), opset=17)
    assert_same(file)


def test_weights_in_constant_nodes(tmp_path: Path) -> None:
    graph = Graph()
    pooled = graph.add("GlobalAveragePool", graph.conv())
    flat = graph.add("Flatten", pooled)
    clipped = graph.add("Clip", flat, graph.constant(np.float32(0.1)))
    for weight in graph.weights:
        node = helper.make_node("Constant", [], [weight.name], value=weight)
        graph.nodes.insert(0, node)
    graph.weights.clear()
    network = assert_same(graph.save(tmp_path / "x.onnx", clipped))
    assert [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(list(network.parameters())) == 1


def test_one_of_several_outputs(tmp_path: Path) -> None:
    graph = Graph()
    flat = graph.add("Flatten", graph.add("GlobalAveragePool", graph.conv()))
    logits = graph.add("Gemm", flat, graph.weight(6, 2))
    file = graph.save(tmp_path / "x.onnx", logits, flat)
    images = noise(2)
    model = load_model(f"onnx:{file}", embedding=1, **HALF)
    assert model.embed(images).shape == (2, 6)


# -- refusals --------------------------------------------------------------------------


def test_operators_that_cannot_be_converted_are_named(tmp_path: Path) -> None:
    graph = Graph()
    flat = graph.add("Flatten", graph.add("GlobalAveragePool", graph.conv()))
    file = graph.save(tmp_path / "x.onnx", graph.add("Hardmax", flat))
    with pytest.raises(ModelError) as caught:
        load_model(f"onnx:{file}")
    assert str(caught.value) == (
        f"the ONNX file {file} has the operator Hardmax ('hardmax_4'), which "
        "onnx2torch cannot convert; export the network's state dict instead, and "
        "register the network."
    )


@pytest.mark.parametrize("operator", ["Squeeze", "Reshape", "ReduceMean"])
def test_operators_that_fix_the_batch_are_named(tmp_path: Path, operator: str) -> None:
    graph = Graph()
    value = graph.conv()
    if operator == "Squeeze":
        value = graph.add("GlobalAveragePool", value)
        graph.add("Squeeze", value, graph.constant(np.array([0, 2, 3])))
    elif operator == "Reshape":
        # (n, 6, 8, 4) as 48 rows.
        graph.add("Reshape", value, graph.constant(np.array([48, 4])))
    else:
        graph.add("ReduceMean", value, axes=[0, 2, 3], keepdims=0)
    name = graph.nodes[-1].name
    file = graph.save(tmp_path / "x.onnx", f"v{len(graph.nodes) - 1}")
    message = f"its operator '{name}' does not take another; export it with a dynamic"
    with pytest.raises(ModelError, match=message):
        load_model(f"onnx:{file}")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (("n", *SIZE, 3), r"inputs of the shapes \[\(0, 16, 8, 3\)\]; one input of"),
        (("n", 1, *SIZE), r"inputs of the shapes \[\(0, 1, 16, 8\)\]; one input of"),
        (("n", 3, -1, -1), "does not fix the size of its images; give size, the"),
        (("n", 3, "h", "w"), "does not fix the size of its images; give size, the"),
    ],
)
def test_inputs(tmp_path: Path, image: Sequence[Any], message: str) -> None:
    graph = Graph()
    pooled = graph.add("Flatten", graph.add("GlobalAveragePool", "image"))
    file = graph.save(tmp_path / "x.onnx", pooled, image=image)
    with pytest.raises(ModelError, match=message):
        load_model(f"onnx:{file}")
    if image[1] == 3:
        model = load_model(f"onnx:{file}", size=(6, 5), **HALF)
        assert model.embed(noise(2, (6, 5))).shape == (2, 3)


def test_files_that_are_no_onnx(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the ONNX file .*none\.onnx does not exist"):
        load_model(f"onnx:{tmp_path / 'none.onnx'}")
    for content in (b"hello", b""):
        (tmp_path / "x.onnx").write_bytes(content)
        with pytest.raises(
            ModelError, match=r"the ONNX file .* (cannot be read|has inp)"
        ):
            load_model(f"onnx:{tmp_path / 'x.onnx'}")


def test_mean_and_std_are_asked_for(tmp_path: Path) -> None:
    graph = Graph()
    flat = graph.add("Flatten", graph.add("GlobalAveragePool", graph.conv()))
    file = graph.save(tmp_path / "x.onnx", flat)
    with pytest.warns(SfamWarning, match="ImageNet are used; give mean and std"):
        model = load_model(f"onnx:{file}")
    assert model.preprocess == Preprocessing(SIZE)
    with pytest.raises(ModelError, match="takes no kwargs"):
        load_model(f"onnx:{file}", kwargs={"a": 1})
