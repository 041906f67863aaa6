"""Models of FiftyOne's own classes give the embeddings that FiftyOne stores."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image
from ray import cloudpickle

import fiftyone_zoo as zoo
from fiftyone_sfam.attribution.pair import explain_pair
from fiftyone_sfam.errors import ModelError, SfamWarning
from fiftyone_sfam.models import load_model
from fiftyone_sfam.models.fiftyone_models import from_fiftyone_model
from fiftyone_sfam.network.image_processors import ImageProcessorPreprocessing

Make = Callable[..., zoo.Deployment]

FAMILIES: dict[str, Make] = {
    "clip": zoo.clip,
    "open_clip": zoo.open_clip,
    "siglip": zoo.siglip,
    "transformers_clip": zoo.transformers_clip,
    "dinov2": zoo.dinov2,
    "dinov2_reg": lambda folder: zoo.dinov2(folder, registers=4),
    "dinov3": zoo.dinov3,
    "vit": zoo.vit,
    "convnext": zoo.convnext,
    "convnext_mean": lambda f: zoo.convnext(f, embeddings_aggregation="mean"),
    "efficientnet": zoo.efficientnet,
    "efficientnet_mean": lambda f: zoo.efficientnet(f, embeddings_aggregation="mean"),
    "swin": zoo.swin,
    "swin_mean": lambda f: zoo.swin(f, embeddings_aggregation="mean"),
    "vit_max": lambda f: zoo.vit(f, embeddings_aggregation="max"),
    "vit_hidden": lambda f: zoo.vit(f, hidden_state_position=1),
    "vit_last_token": lambda f: zoo.vit(f, embeddings_token_position=-1),
    "dinov3_state": lambda f: zoo.dinov3(f, embeddings_output_key="last_hidden_state"),
}
# The others have 32 numbers. Of ConvNeXt and EfficientNet FiftyOne takes one channel.
SIZES = {"clip": 24, "open_clip": 24, "transformers_clip": 24}
SIZES |= {"convnext": 4, "efficientnet": 4, "efficientnet_mean": 80}


@pytest.fixture(autouse=True)
def keep_model_folder() -> Iterator[None]:
    before = fo.config.model_zoo_dir
    yield
    fo.config.model_zoo_dir = before


def wrapped(theirs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SfamWarning)
        return from_fiftyone_model(theirs)


def at_one_size(dataset: fo.Dataset, folder: Path, count: int = 3) -> fo.Dataset:
    for seed in range(count):
        file = folder / f"{seed}.png"
        zoo.picture(seed).save(file)
        dataset.add_sample(fo.Sample(str(file)))
    return dataset


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_those_that_fiftyone_computes(
    family: str, make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    theirs = zoo.load(FAMILIES[family](tmp_path / "model"))
    dataset = at_one_size(make_dataset(), tmp_path)
    stored = dataset.compute_embeddings(theirs, batch_size=2, num_workers=0)
    stored = np.reshape(stored, (3, -1))
    ours = wrapped(theirs)
    images = []
    for sample in dataset:
        with Image.open(sample.filepath) as image:
            images.append(ours.prepare(image))
    found = ours.embed(torch.stack(images)).numpy()
    assert found.shape == (3, SIZES.get(family, 32))
    np.testing.assert_allclose(found, stored, rtol=1e-5, atol=1e-5)
    # Different images have different embeddings, so the test can fail.
    assert np.abs(found[0] - found[1]).max() > 1e-3 * np.abs(found).max()


# Random weights of class-token networks leave most of a score on the class token.
@pytest.mark.filterwarnings("ignore:These maps carry", "ignore:FiftyOne takes")
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"efficientnet"}))
def test_maps_add_up_to_the_score(family: str, tmp_path: Path) -> None:
    model = from_fiftyone_model(zoo.load(FAMILIES[family](tmp_path / "model")))
    pair = explain_pair(model, zoo.picture(0, (56, 56)), zoo.picture(1, (56, 56)))
    # All stages of EfficientNet carry the same; then the last with enough positions is
    # explained. Of ConvNeXt it is the first stage, of the others the patches.
    places = {"convnext": (16, 16), "efficientnet": (16, 16)}.get(
        family.removesuffix("_mean"), (4, 4)
    )
    for side in (pair.query, pair.gallery):
        assert side.evidence.shape == places
        total = side.evidence.sum() + side.remainder
        assert total == pytest.approx(pair.score, abs=1e-5)
        assert np.ptp(side.evidence) > 1e-3


@pytest.mark.parametrize("project", [False, True])
def test_pe_core(
    project: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    theirs = zoo.perception(tmp_path, project=project)
    ours = from_fiftyone_model(theirs)
    images = ours.prepare(zoo.picture(0))[None]
    found = ours.embed(images)[0].numpy()
    assert found.shape == ((16,) if project else (32,))
    expected = theirs.embed(zoo.picture(0))
    np.testing.assert_allclose(found, np.ravel(expected), rtol=1e-5, atol=1e-5)
    assert ours.crop_box(60, 90) == (0, 0, 60, 90)
    pair = explain_pair(ours, zoo.picture(0), zoo.picture(1))
    assert pair.query.evidence.shape == (4, 4)
    total = pair.query.evidence.sum() + pair.query.remainder
    assert total == pytest.approx(pair.score, abs=1e-5)


# --------------------------------------------------------------------------------------
# What is shown of an image
# --------------------------------------------------------------------------------------


def seen_part(preprocess: Any, width: int, height: int) -> tuple[float, ...]:
    """Measure which part of an image an input shows, by two ramps of color."""
    columns = np.linspace(0, 255, width)[None].repeat(height, 0)
    rows = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    ramps = np.stack([columns, rows, 0 * rows], axis=2).round().astype(np.uint8)
    black, white = (Image.new("RGB", (width, height), c) for c in ("black", "white"))
    low, high = preprocess(black)[:2], preprocess(white)[:2]
    shown = ((preprocess(Image.fromarray(ramps))[:2] - low) / (high - low)).double()
    box = []
    for values, length in ((shown[0].mean(0), width), (shown[1].mean(1), height)):
        # Resampling bends the ends of a ramp, so the middle half gives the line.
        quarter = len(values) // 4
        places = np.arange(len(values))[quarter:-quarter] + 0.5
        slope, start = np.polyfit(places, values[quarter:-quarter] * (length - 1), 1)
        box.append((start + 0.5, start + 0.5 + slope * len(values)))
    return (box[0][0], box[1][0], box[0][1], box[1][1])


@pytest.mark.parametrize("size", [(200, 120), (120, 200), (150, 150), (31, 90)])
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("vit", {}),
        ("siglip", {}),
        ("transformers_clip", {}),
        ("convnext", {}),
        ("convnext", {"size": {"shortest_edge": 384}}),
        ("efficientnet", {}),
        ("efficientnet", {"do_center_crop": False}),
        ("open_clip", {}),
        ("clip", {}),
    ],
)
def test_maps_lie_on_the_part_that_the_network_sees(
    family: str, options: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    theirs = zoo.load(FAMILIES[family](tmp_path / "model"))
    preprocess = wrapped(theirs).preprocess
    if options:
        preprocess = ImageProcessorPreprocessing(preprocess.processor, options)
    expected = seen_part(preprocess, *size)
    # One pixel of the input is up to six of the image.
    np.testing.assert_allclose(preprocess.crop_box(*size), expected, atol=2.5)


def test_padding_is_measured(tmp_path: Path) -> None:
    preprocess = wrapped(zoo.load(zoo.vit(tmp_path))).preprocess
    padding = {"do_pad": True, "pad_size": {"height": 48, "width": 64}}
    other = ImageProcessorPreprocessing(preprocess.processor, padding)
    assert other(zoo.picture(0, (100, 50))).shape == (3, 48, 64)
    # 32 x 32 pixels show the image; the rest lies to the right of it and below.
    np.testing.assert_allclose(other.crop_box(100, 50), (0, 0, 200, 75), atol=0.5)


def test_sizes_that_a_processor_does_not_take(tmp_path: Path) -> None:
    preprocess = wrapped(zoo.load(zoo.vit(tmp_path))).preprocess
    longest = {"size": {"longest_edge": 64}}
    other = ImageProcessorPreprocessing(preprocess.processor, longest)
    with pytest.raises(
        ModelError,
        match=r"failed on an image of 100 x 50 pixels \(.*longest_edge",
    ):
        other.crop_box(100, 50)


def test_processors_that_give_more_than_an_image(tmp_path: Path) -> None:
    import transformers

    processor = transformers.DetrImageProcessor(size={"height": 32, "width": 32})
    with pytest.raises(ModelError, match="gives pixel_values, pixel_mask instead of"):
        ImageProcessorPreprocessing(processor)(zoo.picture(0))


# --------------------------------------------------------------------------------------
# What is refused, and what is warned of
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (zoo.swin, r"the token at one place of the image \(token 0\)"),
        (zoo.convnext, r"one channel of the feature map \(channel 0\)"),
        (zoo.efficientnet, r"one channel of the feature map \(channel 0\)"),
    ],
)
def test_an_embedding_of_one_place_is_warned_of(
    make: Make, what: str, tmp_path: Path
) -> None:
    with pytest.warns(SfamWarning, match=f"FiftyOne takes {what} as .*='mean'"):
        from_fiftyone_model(zoo.load(make(tmp_path)))


def test_embeddings_of_the_whole_image_are_not(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SfamWarning)
        for number, deployment in enumerate(
            (
                zoo.vit(tmp_path / "vit"),
                zoo.dinov3(tmp_path / "dinov3"),
                zoo.swin(tmp_path / "swin", embeddings_aggregation="mean"),
                zoo.siglip(tmp_path / "siglip"),
            )
        ):
            assert from_fiftyone_model(zoo.load(deployment)).name, number


def test_models_of_other_tasks_say_why(tmp_path: Path) -> None:
    import transformers

    torch.manual_seed(0)
    network = transformers.SegformerForSemanticSegmentation(
        transformers.SegformerConfig(
            hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1], depths=[1] * 4
        )
    )
    processor = transformers.SegformerImageProcessor(size={"height": 32, "width": 32})
    kind = "fiftyone.utils.transformers.FiftyOneTransformerForSemanticSegmentation"
    folder = zoo.saved(tmp_path, network, processor)
    theirs = zoo.load((kind, {"name_or_path": folder}))
    assert theirs.has_embeddings
    with pytest.raises(ModelError, match=r"cannot be explained: it labels pixels, and"):
        from_fiftyone_model(theirs)


def test_half_precision_is_refused(tmp_path: Path) -> None:
    theirs = zoo.load(zoo.vit(tmp_path))
    theirs._model.to(torch.bfloat16)
    with pytest.raises(
        ModelError, match=r'or with entrypoint_args={"dtype": "float32"}'
    ):
        from_fiftyone_model(theirs)


@pytest.mark.parametrize("layer", ["logit_scale", "transformer.resblocks.0"])
def test_embeddings_from_outside_the_image_encoder(layer: str, tmp_path: Path) -> None:
    theirs = zoo.load(zoo.clip(tmp_path))
    theirs.config.embeddings_layer = layer
    with pytest.raises(ModelError, match=f"from the layer '{layer}', which is not in"):
        from_fiftyone_model(theirs)


@pytest.mark.parametrize("layer", ["visual.ln_post", "<visual.ln_post"])
def test_layers_inside_the_image_encoder(layer: str, tmp_path: Path) -> None:
    theirs = zoo.load(zoo.clip(tmp_path), embeddings_layer=layer)
    ours = from_fiftyone_model(theirs)
    found = ours.embed(ours.prepare(zoo.picture(0))[None])[0]
    expected = np.ravel(theirs.embed(zoo.picture(0)))
    assert found.shape == (64,)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------------------
# Names and copies
# --------------------------------------------------------------------------------------


def test_models_of_the_zoo_by_name(tmp_path: Path) -> None:
    deployments = {
        "own-clip": zoo.clip(tmp_path / "clip"),
        "own-dinov2": zoo.dinov2(tmp_path / "dinov2"),
        "own-siglip": zoo.siglip(tmp_path / "siglip"),
    }
    with zoo.own_manifest(tmp_path, deployments):
        import fiftyone.zoo as foz

        from fiftyone_sfam.models import list_models

        listed = {info.name for info in list_models() if info.name.startswith("own")}
        assert listed == {"own-clip", "own-siglip"}
        for name in deployments:
            theirs = foz.load_zoo_model(name, device="cpu")
            ours = load_model(name, device="cpu")
            assert ours.name == name
            image = zoo.picture(1, (56, 56))
            found = ours.embed(ours.prepare(image)[None])[0]
            expected = np.ravel(theirs.embed(image))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["vit", "siglip", "dinov2", "clip"])
def test_a_wrapped_model_can_be_sent_to_a_worker(family: str, tmp_path: Path) -> None:
    theirs = zoo.load(FAMILIES[family](tmp_path / "model"))
    ours = from_fiftyone_model(theirs)
    images = ours.prepare(zoo.picture(0, (56, 56)))[None]
    expected = ours.embed(images)
    # Copies lie elsewhere in memory, where some processors round otherwise.
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    close(copy.deepcopy(ours).embed(images), expected)
    if family != "dinov2":
        # The class of torch.hub's network is in a module that a process has to load.
        sent = cloudpickle.loads(cloudpickle.dumps(ours))
        close(sent.embed(images), expected)
    close(ours.embed(images), expected)
    assert ours.weights_hash() == from_fiftyone_model(theirs).weights_hash()
