"""Leaks: images and identities that two datasets share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image, ImageOps

import fiftyone_sfam
from fiftyone_sfam.audit.leaks import (
    Leaks,
    counts_table,
    find_leaks,
    pairs_table,
    persons_table,
)
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.errors import DataError
from worlds import person


@pytest.fixture(scope="module")
def collections(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[fo.Dataset, fo.Dataset]]:
    """Six images for training; two of them are in the other three, one mirrored."""
    folder = tmp_path_factory.mktemp("leaks")

    def sample(name: str, image: Image.Image, identity: str | None) -> fo.Sample:
        path = folder / f"{name}.png"
        image.save(path)
        return fo.Sample(filepath=str(path), identity=identity)

    train, test = fo.Dataset("sfam-leaks-train"), fo.Dataset("sfam-leaks-test")
    train.add_samples([sample(f"{n}", person(n, 0), f"p{n}") for n in range(6)])
    test.add_samples(
        [
            sample("copy", person(2, 0), "p2"),
            sample("mirrored", ImageOps.mirror(person(4, 0)), "someone"),
            sample("other", person(5, 1), "p5"),
            sample("blank", Image.new("RGB", (32, 64), (9, 9, 9)), None),
        ]
    )
    yield train, test
    train.delete()
    test.delete()


@pytest.fixture(scope="module")
def leaks(collections: tuple[fo.Dataset, fo.Dataset]) -> Leaks:
    return find_leaks(*collections, identity_field="identity")


def test_shared_images_are_found(
    collections: tuple[fo.Dataset, fo.Dataset], leaks: Leaks
) -> None:
    train, test = (collection.values("id") for collection in collections)
    found = {
        (pair.train_id, pair.test_id): (
            pair.form,
            pair.train_identity,
            pair.test_identity,
        )
        for pair in leaks.pairs
    }
    assert found == {
        (train[2], test[0]): ("identical file", "p2", "p2"),
        (train[4], test[1]): ("mirrored", "p4", "someone"),
    }
    assert all(pair.likeness > 0.99 for pair in leaks.pairs)
    assert leaks.counts() == {
        "identical file": 1,
        "recompressed or resized": 0,
        "recolored": 0,
        "cropped": 0,
        "mirrored": 1,
    }


def test_shared_identities_have_equal_labels(leaks: Leaks) -> None:
    assert leaks.identities == ("p2", "p5")
    assert str(leaks) == (
        "2 of 4 test images are copies of 2 images among 6 for training; 2 identities "
        "occur in both."
    )
    assert "train_images=6, test_images=4" in repr(leaks)


def test_what_was_not_searched_is_said(
    collections: tuple[fo.Dataset, fo.Dataset], leaks: Leaks
) -> None:
    blank, persons = leaks.limits
    assert persons.startswith("No embeddings were given")
    assert blank.startswith("Images of one color, which have nothing to compare: 1.")
    without = find_leaks(*collections)
    assert without.identities == ()
    assert {pair.train_identity for pair in without.pairs} == {None}
    assert "shared identities were not searched" in without.limits[-1]


def test_views_of_one_dataset(collections: tuple[fo.Dataset, fo.Dataset]) -> None:
    """A sample in both views is shared; copies within a view are no leaks."""
    train, _ = collections
    found = find_leaks(train[:4], train[3:])
    [pair] = found.pairs
    assert pair.train_id == pair.test_id == train.values("id")[3]
    assert find_leaks(train[:3], train[3:]).pairs == ()


def test_tables(leaks: Leaks) -> None:
    assert dict(counts_table(leaks).texts())["mirrored"] == "1"
    [row] = pairs_table(leaks, 1).texts()
    pair = leaks.pairs[0]
    assert row[:3] == [pair.train_id, pair.test_id, pair.form]


def test_refused(collections: tuple[fo.Dataset, fo.Dataset]) -> None:
    train, test = collections
    with pytest.raises(DataError, match="no_field"):
        find_leaks(train, test, identity_field="no_field")
    with pytest.raises(DataError, match="no samples"):
        find_leaks(train.limit(0), test)


def test_the_command(
    collections: tuple[fo.Dataset, fo.Dataset],
    leaks: Leaks,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [collection.name for collection in collections]
    assert main(["leaks", *names, "--identity-field", "identity", "--top", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(leaks.summary())
    assert leaks.pairs[0].test_id in printed
    assert leaks.pairs[1].test_id not in printed
    assert "shared identities: p2 and 1 more" in printed
    assert leaks.limits[0] in printed


def test_it_is_public() -> None:
    assert fiftyone_sfam.find_leaks is find_leaks


def test_detections_are_compared(tmp_path: Path) -> None:
    frame = Image.new("RGB", (128, 64), (90, 90, 90))
    frame.paste(person(0), (0, 0))
    frame.paste(person(1), (64, 0))
    frame.save(tmp_path / "frame.png")
    person(1).save(tmp_path / "one.png")
    width = person(0).width / 128
    height = person(0).height / 64

    def dataset(name: str, path: Path, boxes: list[list[float]]) -> fo.Dataset:
        people = [fo.Detection(label="p", bounding_box=box) for box in boxes]
        made = fo.Dataset(name)
        made.add_sample(
            fo.Sample(filepath=str(path), people=fo.Detections(detections=people))
        )
        return made

    boxes = [[0.0, 0.0, width, height], [0.5, 0.0, width, height]]
    train = dataset("sfam-leaks-frames", tmp_path / "frame.png", boxes)
    test = dataset("sfam-leaks-one", tmp_path / "one.png", [[0.0, 0.0, 1.0, 1.0]])
    try:
        [pair] = find_leaks(train, test, patches_field="people").pairs
        assert pair.train_id == str(train.first().people.detections[1].id)
        assert pair.test_id == str(test.first().people.detections[0].id)
    finally:
        train.delete()
        test.delete()


def test_one_person_under_two_labels_is_found() -> None:
    """Forty people for training, ten others in the test, and two of the forty again."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(50, 24))
    train, test = fo.Dataset("sfam-leaks-a"), fo.Dataset("sfam-leaks-b")

    def samples(side: str, people: range | list[int], names: list[str]) -> None:
        dataset = train if side == "train" else test
        made = []
        for person_number, identity in zip(people, names, strict=True):
            for number in range(4):
                vector = centers[person_number] + 0.3 * generator.normal(size=24)
                made.append(
                    fo.Sample(
                        filepath=f"/nowhere/{side}-{identity}-{number}.png",
                        identity=identity,
                        vector=vector.tolist(),
                    )
                )
        dataset.add_samples(made)

    samples("train", range(40), [f"p{n}" for n in range(40)])
    samples("test", [3, 7, *range(40, 50)], ["x3", "p7", *(f"q{n}" for n in range(10))])
    try:
        found = find_leaks(train, test, identity_field="identity", embeddings="vector")
        # Person 7 has one label in both, which needs no embeddings.
        assert found.identities == ("p7",)
        [one] = found.persons
        assert (one.train_identity, one.test_identity) == ("p3", "x3")
        assert 0.5 <= one.probability <= 1
        assert "1 pair of other identities may be one person each" in found.summary()
        rows = persons_table(found, 5).texts()
        assert rows[0][:2] == ["p3", "x3"]
        test.set_values("vector", [[1.0, 2.0]] * len(test))
        with pytest.raises(DataError, match="have 24 values, those for the test 2"):
            find_leaks(train, test, identity_field="identity", embeddings="vector")
        with pytest.raises(DataError, match="give identity_field as well"):
            find_leaks(train, test, embeddings="vector")
    finally:
        train.delete()
        test.delete()
