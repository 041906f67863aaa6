"""Networks in ONNX files, converted to torch by onnx2torch: ``onnx:PATH``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from fiftyone_sfam.data.text import first_line, type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.sources import SourceOptions, needs_extra
from fiftyone_sfam.models.sources.built import Built, InputConfig

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# Largest difference of an image alone and in a batch, relative to the largest value.
_TOLERANCE = 1e-3
_NEWEST_OPSET = 17


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
    model = _of_older_opset(model, file)
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
    return (height, width) if height > 0 and width > 0 else None


def _of_older_opset(model: ModelProto, file: Path) -> ModelProto:
    """Write a model in the newest set of operators that onnx2torch knows."""
    from onnx import version_converter

    given = max((o.version for o in model.opset_import if not o.domain), default=0)
    if given <= _NEWEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, _NEWEST_OPSET)
    # onnx does not document its errors.
    except Exception as error:
        # What precedes is a line of onnx's own code.
        reason = first_line(error).rpartition(": ")[2]
        raise ModelError(
            f"the ONNX file {file} has opset {given}, and cannot be rewritten in opset "
            f"{_NEWEST_OPSET}, the newest that onnx2torch knows ({reason}); export it "
            f"with opset {_NEWEST_OPSET}."
        ) from error


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
    [images] = _inputs(graph)
    batch = images.type.tensor_type.shape.dim[0]
    size = batch.dim_value
    if size > 0:
        # Shapes that the graph computes are needed, so that data is propagated.
        inferred = shape_inference.infer_shapes(model, data_prop=True)
        _free_batch(graph, _shapes(inferred.graph), size)
    batch.dim_param = "batch"
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    _state_ranks(inferred.graph)
    return inferred


def _shapes(graph: GraphProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes that are known; a size that is not known is 0."""
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input)
        if value.type.tensor_type.HasField("shape")
    }


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


def _free_batch(
    graph: GraphProto, shapes: Mapping[str, tuple[int, ...]], batch: int
) -> None:
    """Let the batch have any size where constants fix it."""
    from onnx import helper, numpy_helper

    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = constants[node.input[1]].copy()
            given = shapes.get(node.input[0], ())
            if shape.size and given and shape[0] == given[0] == batch:
                # Zero stands for the size that the input has.
                shape[0] = 0
                name = f"{node.output[0]}/shape"
                graph.initializer.append(numpy_helper.from_array(shape, name))
                node.input[1] = name
        if node.op_type == "Concat" and helper.get_node_attr_value(node, "axis") != 0:
            nodes += _repeated(graph, node, constants)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _repeated(
    graph: GraphProto, node: NodeProto, constants: Mapping[str, NDArray[Any]]
) -> list[NodeProto]:
    """Repeat constants that are joined to images, such as a class token, by nodes."""
    from onnx import helper, numpy_helper

    images = [name for name in node.input if name not in constants]
    made: list[NodeProto] = []
    for place, name in enumerate(node.input):
        value = constants.get(name)
        if not images or value is None or value.ndim < 2 or value.shape[0] != 1:
            continue
        prefix = f"{node.output[0]}/{place}"
        first, rest = np.array([0]), np.ones(value.ndim - 1, dtype=np.int64)
        graph.initializer.append(numpy_helper.from_array(first, f"{prefix}/first"))
        graph.initializer.append(numpy_helper.from_array(rest, f"{prefix}/rest"))
        for operator, inputs, output, attributes in (
            ("Shape", [images[0]], "sizes", {}),
            ("Gather", [f"{prefix}/sizes", f"{prefix}/first"], "batch", {"axis": 0}),
            ("Concat", [f"{prefix}/batch", f"{prefix}/rest"], "shape", {"axis": 0}),
            ("Expand", [name, f"{prefix}/shape"], "repeated", {}),
        ):
            made.append(
                helper.make_node(
                    operator,
                    inputs,
                    [f"{prefix}/{output}"],
                    f"{prefix}/{output}",
                    **attributes,
                )
            )
        node.input[place] = f"{prefix}/repeated"
    return made


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
    recorder, first = _Recorder(network), _Recorder(network)
    with torch.no_grad():
        alone = [first.run(images[:1]), network(images[1:])]
        try:
            batch = recorder.run(images)
        # Which error depends on the operator that does not fit the batch.
        except Exception as error:
            raise _fixed_batch(list(recorder.outputs)[-1], file) from error
    singles = zip(*map(_tensors, alone), strict=True)
    if all(
        _same(torch.cat(single), output)
        for single, output in zip(singles, _tensors(batch), strict=True)
    ):
        return
    for node, output in recorder.outputs.items():
        if node.op == "call_module" and _loses_batch(first.outputs[node], output):
            raise _fixed_batch(node, file)
    raise _fixed_batch(list(recorder.outputs)[-2], file)


def _tensors(output: Any) -> list[Tensor]:
    """Return the outputs of a network as tensors with a batch."""
    outputs = output if isinstance(output, (list, tuple)) else [output]
    return [torch.atleast_1d(tensor) for tensor in outputs]


def _same(expected: Tensor, output: Tensor) -> bool:
    """Return whether two outputs are the same up to rounding."""
    if expected.shape != output.shape:
        return False
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    return float((output - expected).abs().max()) <= _TOLERANCE * largest


def _loses_batch(single: Any, output: Any) -> bool:
    """Return whether an output has one image's shape or values of another image."""
    if not isinstance(single, Tensor) or not isinstance(output, Tensor):
        return False
    if single.shape == output.shape:
        # Shapes and constants are the same for all images.
        return not torch.equal(single, output)
    if single.ndim != output.ndim:
        return True
    along = [i for i in range(single.ndim) if single.shape[i] != output.shape[i]]
    if len(along) != 1:
        return True
    return not _same(single, output.narrow(along[0], 0, single.shape[along[0]]))


def _fixed_batch(node: fx.Node, file: Path) -> ModelError:
    """Build the exception for a network that takes one image only."""
    return ModelError(
        f"the ONNX file {file} fixes the size of the batch: its operator "
        f"'{node.target}' does not take another; export it with a dynamic batch."
    )
