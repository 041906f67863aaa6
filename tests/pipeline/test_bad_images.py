"""One dataset with every kind of image that others have, explained in one run."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_sfam.app.operators.explain_retrieval import ExplainRetrieval
from fiftyone_sfam.attribution.pair import explain_pair
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.data.images import as_shown, read_image
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run
from fiftyone_sfam.runs.run import Run, load_run
from operator_support import context
from worlds import HEIGHT, WIDTH, fill, person, tiny_model

LONGEST = 255
"""Bytes of the longest name that a folder takes."""


# -- files -----------------------------------------------------------------------------


def _png_of(width: int, height: int, path: Path) -> None:
    """Write the head of a picture of any size, and none of its pixels."""
    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(head))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0)
        + b"IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


def _cut(path: Path) -> None:
    whole = path.with_suffix(".whole.jpg")
    person(1).resize((80, 160)).save(whole)
    path.write_bytes(whole.read_bytes()[:900])


def _sixteen_bits(path: Path) -> None:
    grey = np.asarray(person(1).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)


def _turned(path: Path) -> None:
    """Save a person lying on the side, with the order to turn it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    person(1).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def _animated(path: Path) -> None:
    others = [person(7).convert("P"), person(9).convert("P")]
    person(1).convert("P").save(path, save_all=True, append_images=others)


def _palette(path: Path) -> None:
    image = person(1).quantize(16)
    image.save(path, transparency=bytes(range(16)))


def _alpha(path: Path) -> None:
    image = person(1).convert("RGBA")
    image.putalpha(40)
    image.save(path)


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("gone.png", lambda path: None, "the file does not exist: "),
    "zero bytes": ("zero.png", lambda path: path.write_bytes(b""), "cannot identify"),
    "truncated": ("cut.jpg", _cut, "image file is truncated"),
    "text": ("text.jpg", lambda path: path.write_text("hello"), "cannot identify"),
    "folder": ("folder.jpg", lambda path: path.mkdir(), "Is a directory"),
    "pipe": ("pipe.png", os.mkfifo, "is not a regular file"),
    "warned bomb": (
        "warned.png",
        lambda path: _png_of(10_000, 10_000, path),
        "the image of 10000 x 10000 pixels is larger than Pillow's limit of 89478485 "
        "pixels; make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS.",
    ),
    "bomb": (
        "bomb.png",
        lambda path: _png_of(60_000, 60_000, path),
        "exceeds limit of 178956970 pixels, could be decompression bomb",
    ),
    "no pixels": ("none.png", lambda path: _png_of(50, 50, path), "truncated"),
    "floats": (
        "floats.tif",
        lambda path: Image.new("F", (8, 16), 0.5).save(path),
        "the image holds 32-bit numbers, whose range is not known; save it with 8",
    ),
    "long name": (
        "n" * (LONGEST + 1) + ".png",
        lambda path: None,
        "File name too long",
    ),
    "long path": (
        "/".join(["d" * 200] * 25) + "/image.png",
        lambda path: None,
        "File name too long",
    ),
    "zero byte in the path": ("a\0b.png", lambda path: None, "null"),
    "address": ("https:/no.example/a.png", lambda path: None, "does not exist: "),
}

GOOD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "plain": ("plain.png", lambda path: person(1).save(path)),
    "one pixel": (
        "pixel.png",
        lambda path: Image.new("RGB", (1, 1), (9, 99, 200)).save(path),
    ),
    "wide": ("wide.png", lambda path: person(2).resize((20_000, 20)).save(path)),
    "tall": ("tall.png", lambda path: person(2).resize((20, 20_000)).save(path)),
    "cmyk": (
        "cmyk.jpg",
        lambda path: person(1).convert("CMYK").save(path, quality=100),
    ),
    "palette": ("palette.png", _palette),
    "16 bits": ("deep.png", _sixteen_bits),
    "16 bits, pgm": ("deep.pgm", _sixteen_bits),
    "grey": ("grey.png", lambda path: person(1).convert("L").save(path)),
    "grey and alpha": ("la.png", lambda path: person(1).convert("LA").save(path)),
    "alpha": ("alpha.png", _alpha),
    "one bit": ("bit.png", lambda path: person(1).convert("1").save(path)),
    "animated gif": ("moving.gif", _animated),
    "animated webp": (
        "moving.webp",
        lambda path: person(1).save(
            path, save_all=True, append_images=[person(7)], lossless=True
        ),
    ),
    "turned": ("turned.png", _turned),
    "other letters": ("人物 é 𝟙 \n'\"<b>.png", lambda path: person(1).save(path)),
    "longest name": (
        "n" * (LONGEST - 4) + ".png",
        lambda path: person(1).save(path),
    ),
    "long path": (
        "/".join(["d" * 200] * 15) + "/image.png",
        lambda path: person(1).save(path),
    ),
    "wrong ending": ("really-a-png.jpg", lambda path: person(1).save(path, "PNG")),
}


@pytest.fixture(scope="module")
def messy(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[fo.Dataset, dict[str, str]]]:
    """A dataset of all of them, and the name of each case by its sample's id."""
    folder = tmp_path_factory.mktemp("messy")
    dataset = fo.Dataset()
    samples, names = [], []
    for kind, cases in (("good", GOOD), ("broken", BROKEN)):
        for name, (file, make, *_) in cases.items():
            path = folder / kind / file
            with suppress(OSError):  # a path that cannot be
                path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
            samples.append(fo.Sample(str(path), identity=f"p{len(names) % 3}"))
            names.append(f"{kind}: {name}")
    ids = dataset.add_samples(samples)
    yield dataset, dict(zip(ids, names, strict=True))
    dataset.delete()


@pytest.fixture(scope="module")
def run(messy: tuple[fo.Dataset, dict[str, str]]) -> Run:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        return explain_retrieval(messy[0], tiny_model(), k=2, batch_size=5)


# -- the run ---------------------------------------------------------------------------


def test_broken_images_are_skipped_and_say_why(messy, run: Run) -> None:
    dataset, names = messy
    skipped = {names[one.id]: one for one in run.skipped}
    assert set(skipped) == {f"broken: {name}" for name in BROKEN}
    for name, (_, _, reason) in BROKEN.items():
        found = skipped[f"broken: {name}"].reason
        assert reason in found
        assert found.endswith(".")
        assert "\n" not in found
    assert run.config.counts["skipped"] == len(BROKEN)
    assert run.summary()["skipped"] == len(BROKEN)
    # They have no map, nor are they anybody's neighbor.
    assert len(dataset.exists("sfam")) == len(GOOD)
    neighbors = set(dataset.values("sfam_neighbors.classifications[].neighbor_id"))
    assert neighbors.isdisjoint(one.id for one in run.skipped)


def test_all_others_have_maps(messy, run: Run) -> None:
    dataset, names = messy
    explained = {names[one] for one in dataset.exists("sfam").values("id")}
    assert explained == {f"good: {name}" for name in GOOD}
    for pair in run.many_maps(range(len(run.pairs))):
        for side in (pair.query, pair.gallery):
            assert side is not None
            assert all(np.isfinite(values).all() for values in side.maps.values())
            np.testing.assert_allclose(
                side.maps["evidence"].sum() + side.remainder, side.score, atol=0.05
            )


def test_the_same_picture_in_another_form_is_the_same_image(messy, run: Run) -> None:
    """Embeddings tell whether what the network saw is what the App shows."""
    dataset, names = messy
    place = {
        names[one].removeprefix("good: "): i
        for i, one in enumerate(dataset.values("id"))
    }
    vectors = run.embeddings().astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    likeness = vectors @ vectors.T
    for form in (
        "alpha",
        "animated webp",
        "turned",
        "other letters",
        "longest name",
        "wrong ending",
    ):
        assert likeness[place["plain"], place[form]] > 1 - 1e-6, form
    for form in ("16 bits", "16 bits, pgm", "grey and alpha"):
        assert likeness[place["grey"], place[form]] > 1 - 1e-6, form
    assert likeness[place["plain"], place["wide"]] < 0.9999


def test_a_turned_image_has_its_map_where_the_app_shows_it(messy, run: Run) -> None:
    dataset, names = messy
    by_name = {names[sample.id]: sample for sample in dataset.exists("sfam")}
    plain, turned = by_name["good: plain"], by_name["good: turned"]
    # Stored, it lies on its side; shown, and drawn upon, it stands.
    with Image.open(turned.filepath) as image:
        assert image.size == (HEIGHT, WIDTH)
    assert turned.sfam.map.shape == plain.sfam.map.shape == (96, 48)
    # Both have the same neighbor, at the same distance, so the same map.
    pair = explain_pair(tiny_model(), plain.filepath, by_name["good: wide"].filepath)
    other = explain_pair(tiny_model(), turned.filepath, by_name["good: wide"].filepath)
    np.testing.assert_allclose(other.query.evidence, pair.query.evidence, atol=1e-6)


def test_16_bits_are_not_made_white(tmp_path: Path) -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for name in ("deep.png", "deep.tif", "deep.pgm"):
        Image.fromarray(values).save(tmp_path / name)
        shown = np.asarray(read_image(tmp_path / name))
        np.testing.assert_array_equal(shown[..., 1], np.arange(256).reshape(16, 16))
    np.testing.assert_array_equal(np.asarray(as_shown(Image.fromarray(values))), shown)


def test_pillows_limit_is_the_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 399)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(DataError, match=r"20 x 20 pixels is larger .* limit of 399"),
    ):
        read_image(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="could be decompression bomb"):
            read_image(path)
    for limit in (400, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert read_image(path).size == (20, 20)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_same_sentences_in_the_app_and_on_the_command_line(
    dataset: fo.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo model's run over a few of them, each way."""
    fill(dataset, tmp_path, identities=2, shots=2)
    _png_of(10_000, 10_000, tmp_path / "bomb.png")
    (tmp_path / "folder.jpg").mkdir()
    dataset.add_samples(
        [
            fo.Sample(str(tmp_path / name))
            for name in ("bomb.png", "folder.jpg", "no.png")
        ]
    )
    model = {"model": "demo", "k": 1}
    result = ExplainRetrieval().execute(context(dataset, {**model, "key": "app"}))
    assert main(["explain", dataset.name, "--model", "demo", "--key", "cli"]) == 0
    assert (result["images"], result["skipped"]) == (7, 3)
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines()][5] == ["skipped", "3"]
    reasons = [one.reason for one in load_run(dataset, "app").skipped]
    assert reasons == [one.reason for one in load_run(dataset, "cli").skipped]
    assert "larger than Pillow's limit" in reasons[0]
    delete_run(dataset, "app")
    # With none left, it is an error: one sentence, and nothing stored.
    broken = dataset.skip(4)
    with pytest.raises(DataError, match="none of the 3 images could be embedded; the "):
        explain_retrieval(broken, "demo", key="none")
    assert dataset.list_runs() == ["cli"]
    dataset.delete_samples(dataset.limit(4))
    assert main(["explain", dataset.name, "--model", "demo", "--key", "none"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("fiftyone-sfam: none of the 3 images could be embedded; ")
    assert told.count("\n") == 1
