"""Models whose layers are hidden, and maps made with random masks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam.attribution.masks import (
    correlation_map,
    explain_by_masks,
    random_masks,
)
from fiftyone_sfam.attribution.pair import explain_contrast, explain_pair
from fiftyone_sfam.attribution.pair_path import explain_path
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.opaque import OpaqueModel
from fiftyone_sfam.network.preprocess import Preprocessing
from networks import SideInformation, images

SIZE = (32, 16)
PLAIN = Preprocessing(SIZE, mean=(0, 0, 0), std=(1, 1, 1))
BYTES = Preprocessing(SIZE, mean=(0, 0, 0), std=(1, 1, 1), scale=1)


def mean_color(batch: Tensor) -> Tensor:
    return batch.mean((2, 3))


def redness(batch: Tensor) -> Tensor:
    """How much of an image is red, and a constant: alike if both are red."""
    red = (batch[:, 0] - batch[:, 1:].amax(1)).clamp(min=0).mean((1, 2))
    return torch.stack([10 * red, torch.ones_like(red)], 1)


def planted(top: int, left: int) -> Image.Image:
    """A gray picture of 32 x 16 with a red patch of 8 x 6."""
    pixels = np.full((*SIZE, 3), 90, dtype=np.uint8)
    pixels += np.random.default_rng(top).integers(0, 20, (*SIZE, 3), dtype=np.uint8)
    pixels[top : top + 8, left : left + 6] = (230, 20, 20)
    return Image.fromarray(pixels)


# --------------------------------------------------------------------------------------
# Embeddings
# --------------------------------------------------------------------------------------


class Trained(nn.Module):
    """A network that behaves otherwise while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu().mean((2, 3))


def compiled(how: str, network: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "scripted":
            return torch.jit.script(network)
        return torch.jit.trace(network, torch.zeros(2, 3, *SIZE))


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_scripted_modules(how: str) -> None:
    torch.manual_seed(0)
    network = Trained()
    if how == "traced":
        network.eval()
    function = compiled(how, network)
    batch = torch.randn(3, 3, *SIZE)
    with torch.no_grad():
        expected = network.eval()(batch)
    function.train()
    model = OpaqueModel(function, PLAIN)
    torch.testing.assert_close(model.embed(batch), expected)
    assert function.training
    assert repr(model) == "OpaqueModel('Trained', metric='cosine', additive=False)"
    with pytest.raises(ModelError, match="wrap it in OpaqueModel and call explain_by_"):
        EmbeddingModel(function, PLAIN)


def onnx_session(path: Path, batch: int | str) -> Any:
    """A session that averages an image's colors."""
    import onnx
    import onnxruntime

    value = onnx.helper.make_tensor_value_info
    shape = [batch, 3, *SIZE]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("GlobalAveragePool", ["pixels"], ["embedding"])],
        "mean",
        [value("pixels", onnx.TensorProto.FLOAT, shape)],
        [value("embedding", onnx.TensorProto.FLOAT, [batch, 3, 1, 1])],
    )
    opset = onnx.helper.make_opsetid("", 17)
    made = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(made, path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("batch", ["N", 1, 2])
def test_onnxruntime_sessions(tmp_path: Path, batch: int | str) -> None:
    model = OpaqueModel(onnx_session(tmp_path / "mean.onnx", batch), PLAIN)
    pixels = torch.randn(5, 3, *SIZE)
    torch.testing.assert_close(model.embed(pixels), pixels.mean((2, 3)))


class Own:
    """A FiftyOne model in what is used of it: embeds arrays of 8-bit pixels."""

    has_embeddings = True

    def embed_all(self, arrays: list[np.ndarray]) -> np.ndarray:
        assert all(a.dtype == np.uint8 and a.shape == (*SIZE, 3) for a in arrays)
        return np.stack([array.mean((0, 1)) for array in arrays])


def test_fiftyone_models() -> None:
    model = OpaqueModel(Own(), BYTES)
    picture = planted(4, 2)
    found = model.embed(model.prepare(picture)[None])[0]
    np.testing.assert_allclose(found, np.asarray(picture).mean((0, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.numpy().mean((2, 3)), mean_color),
        (lambda x: [x.mean((2, 3)).numpy(), None], mean_color),
        (lambda x: {"embedding": mean_color(x)}, mean_color),
        (lambda x: x.mul_(2).mean((2, 3)), lambda x: 2 * mean_color(x)),
    ],
)
def test_functions(
    function: Callable[[Tensor], Any], expected: Callable[[Tensor], Tensor]
) -> None:
    batch = images(3)
    wanted = expected(batch)
    model = OpaqueModel(function, PLAIN, name="mine")
    torch.testing.assert_close(model.embed(batch), wanted)
    torch.testing.assert_close(model.embed(batch), wanted)


def test_functions_that_give_no_embeddings() -> None:
    with pytest.raises(ModelError, match="int gives no embeddings; give a function"):
        OpaqueModel(3, PLAIN)
    model = OpaqueModel(lambda x: (x, x), PLAIN, name="mine")
    with pytest.raises(ModelError, match=r"'mine' returned a tuple of .*embedding="):
        model.embed(images(2))
    model = OpaqueModel(lambda x: x @ x, PLAIN, name="mine")
    with pytest.raises(ModelError, match=r"'mine' failed on an input of shape \(2, 3,"):
        model.embed(images(2))
    with pytest.raises(ModelError, match="unknown metric 'dot'"):
        OpaqueModel(mean_color, PLAIN, metric="dot")  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------
# Maps
# --------------------------------------------------------------------------------------


def test_a_planted_patch_has_the_mass_of_the_map() -> None:
    model = OpaqueModel(redness, PLAIN)
    result = explain_by_masks(model, planted(4, 2), planted(20, 8), masks=400)
    assert result.query.shape == result.gallery.shape == SIZE
    for found, top, left in ((result.query, 4, 2), (result.gallery, 20, 8)):
        assert found.dtype == np.float32
        row, column = np.unravel_index(found.argmax(), SIZE)
        assert top <= row < top + 8
        assert left <= column < left + 6
        inside = found[top : top + 8, left : left + 6]
        mask = np.zeros(SIZE, dtype=bool)
        mask[top : top + 8, left : left + 6] = True
        assert inside.mean() > 0.4
        assert inside.mean() > 5 * abs(found[~mask].mean())
        assert np.abs(found).max() <= 1
    # Both images are as red, so they are alike.
    assert result.score == pytest.approx(1, abs=1e-3)
    assert result.distance == pytest.approx(1 - result.score)


def test_it_says_that_it_is_not_additive() -> None:
    result = explain_by_masks(
        OpaqueModel(redness, PLAIN, name="red"), planted(4, 2), planted(20, 8), masks=3
    )
    assert result.additive is False
    assert repr(result).endswith(
        "metric='cosine', model='red', masks=3, seed=0, additive=False)"
    )
    assert "not additive" in (type(result).__doc__ or "")
    assert not hasattr(result, "remainder")


def test_the_seed_gives_the_same_bytes() -> None:
    model = OpaqueModel(redness, PLAIN)
    pair = planted(4, 2), planted(20, 8)
    results = [explain_by_masks(model, *pair, masks=40, seed=s) for s in (5, 5, 6)]
    digests = [(r.query.tobytes(), r.gallery.tobytes()) for r in results]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_the_map_is_the_correlation_over_the_masks() -> None:
    image = torch.rand(3, *SIZE)
    partner = torch.tensor([1.0, 0.5, 2.0])
    seen: list[Tensor] = []

    def embed(batch: Tensor) -> Tensor:
        seen.append(batch)
        return mean_color(batch)

    found = correlation_map(embed, image, partner, metric="cosine", masks=50, seed=1)
    assert [len(batch) for batch in seen] == [32, 18]
    generator = torch.Generator().manual_seed(1)
    masks = torch.cat([random_masks(n, SIZE, generator) for n in (32, 18)])
    mean = image.mean((1, 2), keepdim=True)
    masked = mean + masks[:, None] * (image - mean)
    scores = nn.functional.cosine_similarity(mean_color(masked), partner[None])
    columns = np.corrcoef(scores.numpy(), masks.flatten(1).numpy(), rowvar=False)
    np.testing.assert_allclose(found.ravel(), columns[0, 1:], atol=1e-3)


def test_masks_are_smooth_and_hide_half() -> None:
    masks = random_masks(200, (40, 25), torch.Generator().manual_seed(0))
    assert masks.shape == (200, 40, 25)
    assert (float(masks.min()), float(masks.max())) == (0, 1)
    assert float(masks.mean()) == pytest.approx(0.5, abs=0.02)
    assert float((masks[:, 1:] - masks[:, :-1]).abs().max()) < 0.3


def test_a_model_that_ignores_the_image_has_an_empty_map() -> None:
    model = OpaqueModel(lambda x: torch.ones(len(x), 2), PLAIN)
    result = explain_by_masks(model, planted(4, 2), planted(20, 8), masks=5)
    assert not result.query.any()


def test_models_with_layers_and_inputs(tmp_path: Path) -> None:
    import fiftyone as fo

    torch.manual_seed(0)
    model = EmbeddingModel(
        SideInformation(), PLAIN, inputs={"cam_label": "camera", "hour": "time"}
    )
    samples = []
    for camera, (top, left) in enumerate(((4, 2), (20, 8))):
        path = str(tmp_path / f"{camera}.png")
        planted(top, left).save(path)
        samples.append(fo.Sample(filepath=path, camera=camera, time=1.0))
    result = explain_by_masks(model, *samples, masks=5)
    assert result.score == pytest.approx(explain_pair(model, *samples).score, abs=1e-6)
    with pytest.raises(DataError, match="give FiftyOne samples"):
        explain_by_masks(model, *(sample.filepath for sample in samples))


@pytest.mark.parametrize("masks", [1, 2.5, True, "many"])
def test_numbers_of_masks(masks: Any) -> None:
    with pytest.raises(DataError, match=f"masks is {masks!r}; give a whole number fro"):
        explain_by_masks(OpaqueModel(redness, PLAIN), "a", "b", masks=masks)


def test_what_needs_a_layer_says_what_to_call() -> None:
    model = OpaqueModel(redness, PLAIN, name="red")
    message = r"model 'red' is opaque, .* call explain_by_masks\(model, query, gallery"
    pair = planted(4, 2), planted(20, 8)
    for explain in (explain_pair, explain_path):
        with pytest.raises(ModelError, match=message):
            explain(model, *pair)
    with pytest.raises(ModelError, match=message):
        explain_contrast(model, *pair, pair[0])
