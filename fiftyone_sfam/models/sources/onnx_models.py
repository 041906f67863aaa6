"""Networks in ONNX files, converted to torch by onnx2torch: ``onnx:PATH``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from fiftyone_sfam.data.text import first_line, type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.sources import SourceOptions, needs_extra
from fiftyone_sfam.models.sources.built import Built, InputConfig

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# Largest difference of an image alone and in a batch, relative to the largest value.
_TOLERANCE = 1e-3


def build(name: str, options: SourceOptions) -> Built:
    """Convert an ONNX file to a network of torch."""
    if options.kwargs:
        raise ModelError("an ONNX file is converted as it is and takes no kwargs.")
    file = options.folder / Path(name).expanduser()
    network, size = load_onnx(file)
    size = options.size or size
    if size is None:
        raise ModelError(
            f"the ONNX file {file} does not fix the size of its images; give size, the "
            "height and width of the network's input."
        )
    _check_batch(network, size, file)
    return Built(network, InputConfig(size), options.embedding)


def load_onnx(file: Path) -> tuple[nn.Module, tuple[int, int] | None]:
    """Read an ONNX file; return the network, and height and width of its input."""
    try:
        import onnx
        from onnx2torch import convert
    except ImportError as error:
        raise needs_extra("ONNX", "onnx2torch", "onnx") from error
    if not file.is_file():
        raise ModelError(f"the ONNX file {file} does not exist.")
    try:
        model = onnx.load(str(file))
    # protobuf raises errors of its own.
    except Exception as error:
        raise ModelError(
            f"the ONNX file {file} cannot be read ({type_and_first_line(error)})."
        ) from error
    size = _input_size(model, file)
    _check_operators(model, file)
    try:
        prepared = _prepared(model)
        network = convert(prepared)
    # onnx2torch does not document its errors.
    except Exception as error:
        raise ModelError(
            f"the ONNX file {file} cannot be converted ({first_line(error)}); export "
            "the network's state dict instead, and register the network."
        ) from error
    return network.float().eval(), size


# --------------------------------------------------------------------------------------
# The graph
# --------------------------------------------------------------------------------------


def _inputs(graph: GraphProto) -> list[Any]:
    """Return the inputs of a graph that are not weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _input_size(model: ModelProto, file: Path) -> tuple[int, int] | None:
    """Return height and width of the images; None if they are not fixed."""
    inputs = _inputs(model.graph)
    shapes = [
        tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in inputs
    ]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (0, 3):
        raise ModelError(
            f"the ONNX file {file} has inputs of the shapes {shapes}; one input of "
            "shape (batch, 3, height, width) is needed."
        )
    height, width = shapes[0][2:]
    return (height, width) if height and width else None


def _check_operators(model: ModelProto, file: Path) -> None:
    """Raise if onnx2torch cannot convert an operator."""
    from onnx2torch.node_converters import get_converter

    versions = {entry.domain: entry.version for entry in model.opset_import}
    for node in model.graph.node:
        try:
            get_converter(node.op_type, versions.get(node.domain, 1), node.domain)
        except NotImplementedError as error:
            raise ModelError(
                f"the ONNX file {file} has the operator {_shown(node)}, which "
                "onnx2torch cannot convert; export the network's state dict instead, "
                "and register the network."
            ) from error


def _prepared(model: ModelProto) -> ModelProto:
    """Return a model for batches of any size, with the shapes of its values."""
    from onnx import shape_inference

    graph = model.graph
    _constants_to_initializers(graph)
    _free_batch(graph)
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    # Shapes that the graph computes are needed, so that data is propagated.
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    _state_ranks(inferred.graph)
    return inferred


def _constants_to_initializers(graph: GraphProto) -> None:
    """Store the values of constant nodes as onnx2torch stores weights."""
    from onnx import numpy_helper

    kept: list[NodeProto] = []
    for node in graph.node:
        value = next((a for a in node.attribute if a.name == "value"), None)
        if node.op_type != "Constant" or value is None:
            kept.append(node)
            continue
        tensor = numpy_helper.from_array(numpy_helper.to_array(value.t))
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _free_batch(graph: GraphProto) -> None:
    """Let the batch have any size where it is fixed at one image."""
    from onnx import numpy_helper

    [images] = _inputs(graph)
    batch = images.type.tensor_type.shape.dim[0]
    fixed = batch.dim_value == 1
    batch.dim_param = "batch"
    if not fixed:
        return
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if shape.size and shape[0] == 1:
            # Zero stands for the size that the input has.
            shape[0] = 0
            name = f"{node.input[1]}_of_{node.output[0]}"
            graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name


def _state_ranks(graph: GraphProto) -> None:
    """Give inputs of batch normalization after Gemm the shape that Gemm returns."""
    from onnx import TensorProto, helper

    known = {
        value.name: value
        for value in graph.value_info
        if value.type.tensor_type.HasField("shape")
    }
    channels = {t.name: t.dims[0] for t in graph.initializer if len(t.dims) == 1}
    gemms = {name for n in graph.node if n.op_type == "Gemm" for name in n.output}
    for node in graph.node:
        name = node.input[0] if node.input else ""
        if node.op_type != "BatchNormalization" or name in known or name not in gemms:
            continue
        shape = ["batch", channels.get(node.input[1])]
        graph.value_info.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        )


def _shown(node: NodeProto) -> str:
    """Return an operator's type and name."""
    return f"{node.op_type} ('{node.name}')" if node.name else node.op_type


# --------------------------------------------------------------------------------------
# The batch
# --------------------------------------------------------------------------------------


class _Recorder(fx.Interpreter):
    """Runs a network, and keeps what each of its steps returns."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network, garbage_collect_values=False)
        self.outputs: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a step and keep its output."""
        self.outputs[n] = None
        self.outputs[n] = super().run_node(n)
        return self.outputs[n]


def _check_batch(network: nn.Module, size: tuple[int, int], file: Path) -> None:
    """Raise if an image has another embedding in a batch than alone."""
    assert isinstance(network, fx.GraphModule)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    alone, batch = _Recorder(network), _Recorder(network)
    with torch.no_grad():
        alone.run(images[:1])
        try:
            batch.run(images)
        # Which error depends on the operator that does not fit the batch.
        except Exception as error:
            raise _fixed_batch(list(batch.outputs)[-1], file) from error
    for node, output in batch.outputs.items():
        single = alone.outputs[node]
        if node.op == "call_module" and _differs(single, output):
            raise _fixed_batch(node, file)


def _differs(single: Any, output: Any) -> bool:
    """Return whether the first image's part of an output is not that of it alone."""
    if not isinstance(single, Tensor) or not isinstance(output, Tensor):
        return False
    if single.shape == output.shape and torch.equal(single, output):
        # Shapes and constants, the same for all images.
        return False
    if not single.is_floating_point() or single.ndim == 0 or single.shape[0] != 1:
        return False
    if output.shape != (2, *single.shape[1:]):
        return True
    largest = float(single.abs().max()) if single.numel() else 0.0
    return float((output[:1] - single).abs().max()) > _TOLERANCE * largest


def _fixed_batch(node: fx.Node, file: Path) -> ModelError:
    """Build the exception for a network that takes one image only."""
    return ModelError(
        f"the ONNX file {file} fixes the batch at one image: its operator "
        f"'{node.target}' does not take several; export it with a dynamic batch."
    )
