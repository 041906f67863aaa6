"""ONNX files as networks of torch: the same embeddings, batches of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, fx, nn

from fiftyone_sfam.models import load_model

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def reference(file: Path, images: Tensor) -> np.ndarray:
    """Run onnxruntime on one image after the other."""
    session = onnxruntime.InferenceSession(str(file))
    name = session.get_inputs()[0].name
    outputs = [session.run(None, {name: image[None].numpy()})[0] for image in images]
    return np.concatenate(outputs)


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
    assert model.preprocess.size == size
    images = torch.rand(5, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = reference(file, images)
    assert expected.shape == (5, features)
    for batch in (1, 5):
        embeddings = model.embed(images[:batch]).numpy()
        assert embeddings.shape == (batch, features)
        assert np.abs(embeddings - expected[:batch]).max() < 1e-4
    assert isinstance(model.network, fx.GraphModule)
    assert isinstance(model.network.get_submodule(layer), nn.Module)
