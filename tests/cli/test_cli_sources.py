"""Models of other libraries on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cli_support import Output, printed, refused
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.errors import SfamWarning
from fiftyone_sfam.runs.run import load_run
from worlds import fill


@pytest.fixture
def world(tmp_path: Path) -> Iterator[fo.Dataset]:
    dataset = fill(fo.Dataset(), tmp_path, identities=3, shots=2)
    yield dataset
    dataset.delete()


def write_onnx(file: Path) -> None:
    """Write a convolution, ReLU and average pooling, for images of 16 x 8."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
            helper.make_node("Flatten", ["p"], ["y"], "flatten"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)


def test_a_source_is_explained(
    world: fo.Dataset, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_onnx(tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    explain = ["explain", world.name, "--model", "onnx:net.onnx", "--k", "1"]
    with pytest.warns(SfamWarning, match="mean and std of ImageNet are used"):
        assert main(explain) == 0
    run = load_run(world, "sfam")
    assert (run.config.model, run.config.layer) == ("onnx:net.onnx", "relu")
    assert run.config.map_shape == (4, 16, 8)
    options = json.dumps({"mean": [0, 0, 0], "std": [1, 1, 1], "metric": "euclidean"})
    printed(capsys, *explain, "--key", "other", "--model-options", options)
    assert load_run(world, "other").config.metric == "euclidean"


def test_mistakes(world: fo.Dataset, capsys: Output) -> None:
    explain = ["explain", world.name, "--model"]
    assert "'resnet51'; did you mean 'resnet50'?" in refused(
        capsys, *explain, "torchvision:resnet51"
    )
    assert "the ONNX file /none.onnx does not exist." in refused(
        capsys, *explain, "onnx:/none.onnx"
    )
    assert "the model 'demo' takes no options, but 'mean' is given" in refused(
        capsys, *explain, "demo", "--model-options", '{"mean": [0, 0, 0]}'
    )
    for text, problem in (("{", "is not valid JSON"), ("3", "is not a JSON object")):
        with pytest.raises(SystemExit):
            main([*explain, "timm:x", "--model-options", text])
        assert f"--model-options: '{text}' {problem}" in capsys.readouterr().err
