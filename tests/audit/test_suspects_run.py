"""Suspects of a run: found, explained, stored with it, written on its images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F
from PIL import Image

from fiftyone_sfam import (
    Protocol,
    delete_run,
    explain_retrieval,
    load_model,
    load_run,
    rename_run,
)
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.audit.suspects.search import (
    DUPLICATE,
    KINDS,
    MERGED,
    MISLABELED,
    SPLIT,
    UNINFORMATIVE,
    Suspects,
    find_suspects,
    load_suspects,
)
from fiftyone_sfam.demo.dataset import load_demo_dataset
from fiftyone_sfam.demo.world import DefectPlan
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.runs.blobs import json_array
from fiftyone_sfam.runs.run import Run
from worlds import REID, embeddings_of, fill, fill_frames, person, tiny_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run over a small world with every defect, and one image of nothing."""
    dataset = load_demo_dataset(
        "sfam-suspects",
        11,
        tmp_path_factory.mktemp("suspects"),
        identities=16,
        images_per_identity=8,
        defects=DefectPlan(2, 1, 1, 2, 3),
    )
    blank = dataset.match(F("planted").length() == 0).first()
    Image.new("RGB", (64, 128), (110, 90, 140)).save(blank.filepath)
    blank.tags.append("blank")
    blank.save()
    yield explain_retrieval(dataset, load_model("demo"), k=4, protocol=REID)
    dataset.delete()


@pytest.fixture(scope="module")
def suspects(world: Run) -> Suspects:
    return find_suspects(world, split_field="split")


def planted(run: Run, kind: str, value: str) -> set[frozenset[str]]:
    listed = run.dataset.info["sfam_demo"]["planted"]
    return {frozenset(one[value]) for one in listed if one["kind"] == kind}


def tiny_run(dataset: fo.Dataset, protocol: Protocol | None = None, **options) -> Run:
    options = {"k": 3, "key": "tiny", **options}
    return explain_retrieval(
        dataset, tiny_model(), protocol=protocol or REID, **options
    )


# --------------------------------------------------------------------------------------
# What is found
# --------------------------------------------------------------------------------------


def test_wrong_labels_are_found(world: Run, suspects: Suspects) -> None:
    found = suspects.of_kind(MISLABELED)
    assert {frozenset(one.sample_ids) for one in found} == planted(
        world, "wrong_label", "samples"
    )
    # The label comes first, then the person that is seen.
    for one in found:
        sample = world.dataset[one.sample_ids[0]]
        assert one.identities == (sample.identity, sample.true_identity)
        assert one.sentence.startswith(
            f"1 image labeled {sample.identity} is nearer to {sample.true_identity}: "
            "similarity "
        )
        assert "7 images" in one.sentence
        assert "8 images" in one.sentence


def test_persons_and_identities_are_found(world: Run, suspects: Suspects) -> None:
    assert {frozenset(one.identities) for one in suspects.of_kind(SPLIT)} == planted(
        world, "split_identity", "identities"
    )
    [merged] = suspects.of_kind(MERGED)
    [truth] = planted(world, "merged_identity", "samples")
    assert set(merged.sample_ids) == truth
    # The smaller group is one of the two persons.
    group = world.dataset.select(str(merged.evidence["group"]).split())
    assert len(group) == merged.evidence["smaller_group"]
    assert len(group.distinct("true_identity")) == 1


def test_near_duplicates_across_the_split_are_found(
    world: Run, suspects: Suspects
) -> None:
    found = suspects.of_kind(DUPLICATE)
    assert {frozenset(one.sample_ids) for one in found} == planted(
        world, "near_duplicate", "samples"
    )
    for one in found:
        assert one.evidence["across"] == "gallery and query"
        assert "across gallery and query, so one leaks into the other" in one.sentence
        assert one.evidence["form"] in ("recompressed or resized", "recolored")
        assert one.evidence["likeness"] > 0.95


def test_a_blank_image_is_uninformative(world: Run, suspects: Suspects) -> None:
    [blank] = world.dataset.match_tags("blank").values("id")
    [found] = [
        one for one in suspects.of_kind(UNINFORMATIVE) if blank in one.sample_ids
    ]
    assert found.evidence["reason"] == "dull"
    assert "less detail than other images" in found.sentence
    # One image fills no list: it is in no other finding of its own.
    others = [one for one in suspects.findings if one.sample_ids == (blank,)]
    assert others == [found]


def test_people_before_one_wall_are_not_one_person(
    world: Run, suspects: Suspects
) -> None:
    """They are nearer to each other than to anyone, as the split person is."""
    try:
        low = find_suspects(world, kinds=[SPLIT], min_score=0.0)
    finally:
        find_suspects(world, split_field="split")
    walls = {next(iter(one)) for one in planted(world, "shortcut", "identities")}
    before = [one.score for one in low.findings if set(one.identities) <= walls]
    [person] = suspects.of_kind(SPLIT)
    assert max(before, default=0.0) < 0.2
    assert person.score > 0.8


def test_findings_are_ranked_and_complete(world: Run, suspects: Suspects) -> None:
    scores = [one.score for one in suspects.findings]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.5
    assert max(scores) < 1
    assert suspects.counts()[MISLABELED] == 2
    assert suspects.region_field == "person"
    assert suspects.split_field == "split"
    assert suspects.limits == ()
    items = world.items
    for one in suspects.findings:
        assert one.kind in KINDS
        assert set(one.sample_ids) == {
            str(items.sample_ids[item]) for item in one.items
        }
        assert one.sentence.endswith(".")
        for pair in one.pairs:
            ends = {int(world.pairs.query[pair]), int(world.pairs.gallery[pair])}
            assert ends & set(one.items)


def test_pairs_of_findings_are_those_that_show_them(
    world: Run, suspects: Suspects
) -> None:
    names, pairs = world.items.identities, world.pairs

    def labels(pair: int) -> set[str | None]:
        return {names[pairs.query[pair]], names[pairs.gallery[pair]]}

    [split] = suspects.of_kind(SPLIT)
    assert split.pairs
    assert all(labels(pair) == set(split.identities) for pair in split.pairs)
    near = [pairs.similarity[pair] for pair in split.pairs]
    assert near == sorted(near, reverse=True)
    for one in suspects.of_kind(MISLABELED):
        assert one.pairs
        assert all(labels(pair) <= set(one.identities) for pair in one.pairs)


def test_labels_are_scored_one_by_one(world: Run, suspects: Suspects) -> None:
    wrong = {
        one for several in planted(world, "wrong_label", "samples") for one in several
    }
    ids = world.items.sample_ids
    assert suspects.label_scores.shape == (len(world.items),)
    order = np.argsort(-suspects.label_scores)
    assert {str(ids[item]) for item in order[: len(wrong)]} == wrong


# --------------------------------------------------------------------------------------
# What is stored
# --------------------------------------------------------------------------------------


def test_suspects_are_stored_as_they_were_found(world: Run, suspects: Suspects) -> None:
    stored = load_suspects(load_run(world.dataset, "sfam"))
    assert stored is not None
    assert stored.findings == suspects.findings
    assert stored.limits == suspects.limits
    assert "suspects" in world.results.names()


def test_suspects_of_an_earlier_version_are_read(
    world: Run, suspects: Suspects
) -> None:
    stored = world.results.load("suspects")
    assert stored is not None
    new = ("proposal", "changes", "identity")
    findings = [
        {name: value for name, value in asdict(one).items() if name not in new}
        for one in suspects.findings
    ]
    config = {
        name: value for name, value in stored.config.items() if name != "expected"
    }
    arrays = {**stored.arrays, "findings": json_array(findings)}
    try:
        world.results.save("suspects", config, arrays, list(stored.fields))
        found = load_suspects(world)
        assert found is not None
        assert [one.sentence for one in found.findings] == [
            one.sentence for one in suspects.findings
        ]
        assert {one.proposal for one in found.findings} == {""}
        assert found.expected == {}
        assert found.limits[-1].endswith("Find the suspects again.")
    finally:
        find_suspects(world, split_field="split")


def test_samples_can_be_filtered_by_what_they_are_suspected_of(
    world: Run, suspects: Suspects
) -> None:
    for kind in KINDS:
        expected = {
            sample for one in suspects.of_kind(kind) for sample in one.sample_ids
        }
        view = world.dataset.match(F("sfam_suspects").contains(kind))
        assert set(view.values("id")) == expected
    suspected = world.dataset.exists("sfam_suspects")
    assert len(suspected) == len({s for f in suspects.findings for s in f.sample_ids})
    assert world.dataset.count_values("sfam_suspects")[MISLABELED] == 2


def test_a_second_search_replaces_the_first(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path, 5, 4)
    # A picture that is there twice, once as another person.
    double = dataset.skip(4).first()
    double.filepath = dataset.first().filepath
    double.save()
    run = tiny_run(dataset)
    found = find_suspects(run, kinds=[DUPLICATE])
    assert found.kinds == (DUPLICATE,)
    [one] = found.findings
    assert one.items == (0, 4)
    assert one.identities == ("p0", "p1")
    assert "so one label is wrong" in one.sentence
    assert dataset.count_values("tiny_suspects") == {DUPLICATE: 2}

    # The embeddings are as near as before, but the pictures are two now.
    double.filepath = str(tmp_path / "another.png")
    person(9).save(double.filepath)
    double.save()
    assert find_suspects(run, kinds=[DUPLICATE]).findings == ()
    assert dataset.exists("tiny_suspects").values("id") == []

    rename_run(dataset, "tiny", "other")
    assert dataset.has_field("other_suspects")
    assert load_suspects(load_run(dataset, "other")) is not None
    delete_run(dataset, "other")
    assert not dataset.has_field("other_suspects")
    assert not dataset.has_field("tiny_suspects")


def test_a_field_of_somebody_else_is_not_written(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path)
    dataset.add_sample_field("tiny_suspects", fo.StringField)
    run = tiny_run(dataset)
    with pytest.raises(RunError, match="field 'tiny_suspects' that does not belong"):
        find_suspects(run)
    assert load_suspects(run) is None


def test_detections_are_suspected_one_by_one(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill_frames(dataset, tmp_path)
    # The second person of the first frame, painted over the third's place.
    sample = dataset.first()
    with Image.open(sample.filepath) as opened:
        image = opened.convert("RGB")
    first, _, third = sample.people.detections
    copy = person(0, 0)
    image.paste(copy, (2, 3))
    image.paste(copy, (34, 28))
    image.save(sample.filepath)
    run = tiny_run(
        dataset,
        Protocol(identity_field="label", camera_field="camera"),
        patches_field="people",
    )
    [found] = find_suspects(run, kinds=[DUPLICATE]).findings
    assert [str(run.items.label_ids[item]) for item in found.items] == [
        first.id,
        third.id,
    ]
    assert found.sample_ids == (sample.id,)
    stored = dataset.values("people.detections.tiny_suspects")
    assert stored[0] == [[DUPLICATE], None, [DUPLICATE]]
    assert all(value is None for row in stored[1:] for value in row)


# --------------------------------------------------------------------------------------
# What cannot be judged
# --------------------------------------------------------------------------------------


def test_limits_are_said(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, 5, 4)
    samples = list(dataset)
    samples[0].identity = None
    samples[5].identity = "lonely"
    for sample in samples:
        sample.camera = "c0"
        sample.save()
    run = tiny_run(
        dataset,
        Protocol(
            identity_field="identity", camera_field="camera", exclude_same_camera=False
        ),
    )
    limits = " ".join(find_suspects(run).limits)
    assert "Images without an identity, or of distractors: 1." in limits
    assert "Identities with a single image: 1." in limits
    # The lonely one, and the two that have lost an image.
    assert "All images come from one camera" in limits
    assert "No field separates the background" in limits
    scores = find_suspects(run).label_scores
    assert np.flatnonzero(np.isnan(scores)).tolist() == [0, 5]


def test_a_run_without_identities_has_near_duplicates_only(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path, 4, 3)
    last = dataset.last()
    last.filepath = dataset.first().filepath
    last.save()
    found = find_suspects(tiny_run(dataset, Protocol()))
    [one] = found.findings
    assert (one.kind, one.items, one.identities) == (DUPLICATE, (0, 11), ())
    assert one.evidence["across"] == ""
    assert found.limits[0].startswith("No image has an identity")


def test_junk_is_left_out_and_distractors_are_nobody(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path, 6, 4)
    run = tiny_run(
        dataset,
        Protocol(identity_field="identity", junk=("p0",), distractors=("p1",)),
    )
    scores = find_suspects(run, min_score=0.0).label_scores
    assert np.isnan(scores[:8]).all()
    assert not np.isnan(scores[8:]).any()
    suspects = load_suspects(run)
    assert suspects is not None
    named = {name for one in suspects.findings for name in one.identities}
    assert named
    assert named <= {"p2", "p3", "p4", "p5"}
    assert not {item for one in suspects.findings for item in one.items} & set(range(4))


def test_pictures_that_are_gone_are_said(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, 4, 4)
    run = tiny_run(dataset)
    for path in dataset.values("filepath"):
        Path(path).unlink()
    found = find_suspects(run)
    assert found.of_kind(DUPLICATE) == ()
    assert "could not be read; the first: the file does not exist" in found.limits[-1]


def test_an_image_that_the_run_skipped_is_no_suspect(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path, 5, 4)
    Path(dataset.values("filepath")[6]).write_bytes(b"no image")
    run = tiny_run(dataset)
    assert len(run.skipped) == 1
    found = find_suspects(run, min_score=0.0)
    assert np.flatnonzero(np.isnan(found.label_scores)).tolist() == [6]
    said = [one for one in found.findings if one.kind == UNINFORMATIVE]
    assert said
    assert not any(6 in one.items for one in said)


def test_samples_that_were_deleted_get_no_field(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path, 5, 4)
    run = tiny_run(dataset)
    dataset.delete_samples([dataset.first()])
    found = find_suspects(run, min_score=0.0)
    assert found.findings
    assert len(dataset.exists("tiny_suspects")) <= 19


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["blurred"]}, "kinds is .'blurred'.; choose from mislabeled image"),
        ({"kinds": []}, "choose from"),
        ({"kinds": "near-duplicate"}, "use a list of kinds"),
        ({"min_score": 1.0}, "min_score is 1.0; use a number that is at least 0"),
        ({"min_score": -0.1}, "and below 1"),
        ({"region_field": "identity"}, "no field 'identity' of masks"),
        ({"split_field": "nothing"}, "'nothing'"),
    ],
)
def test_what_cannot_be_asked_for(world: Run, options: dict, message: str) -> None:
    before = load_suspects(world)
    with pytest.raises(DataError, match=message):
        find_suspects(world, **options)
    assert load_suspects(world) == before


def test_the_background_is_read_from_the_ledger_where_there_is_one(
    world: Run, suspects: Suspects, make_dataset: Callable[..., fo.Dataset]
) -> None:
    """The same shares, whether maps are read or the stored ledger is."""
    [before] = suspects.of_kind(SPLIT)
    build_ledger(world, "person", resamples=10)
    try:
        found = find_suspects(world, split_field="split")
    finally:
        world.results.delete("regions")
    [after] = found.of_kind(SPLIT)
    for name in ("background_share", "background_usual", "background_z"):
        assert after.evidence[name] == pytest.approx(before.evidence[name], abs=1e-5)
    assert after.identities == before.identities


def test_without_a_region_field_nothing_is_said_of_the_background(world: Run) -> None:
    found = find_suspects(world, region_field=None, kinds=[SPLIT])
    assert found.region_field is None
    assert "No field separates the background" in " ".join(found.limits)
    [one] = found.findings
    assert "background_share" not in one.evidence
    # All people of the demo are called alike, which says nothing.
    assert "names_alike" not in one.evidence


def test_progress_is_reported(world: Run) -> None:
    calls: list[tuple[int, int, str]] = []
    find_suspects(world, kinds=[MERGED], progress=lambda *call: calls.append(call))
    assert calls[-1] == (len(world.items), len(world.items), "comparing")


# --------------------------------------------------------------------------------------
# Neighbors from an index
# --------------------------------------------------------------------------------------


def test_images_are_compared_with_those_that_the_index_of_the_run_proposes(
    dataset: fo.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = fob.brain_config.similarity_backends
    settings = {**backends["lancedb"], "uri": str(tmp_path / "lance")}
    monkeypatch.setitem(backends, "lancedb", settings)
    fill(dataset, tmp_path, identities=12, shots=4)
    vectors = embeddings_of(tiny_model(), dataset.values("filepath"))
    fob.compute_similarity(
        dataset,
        embeddings=vectors,
        brain_key="index",
        backend="lancedb",
        metric="cosine",
    )
    # The index also holds images that are not in the run.
    view = dataset.match(F("identity") != "p3")
    options = {"k": 3, "protocol": REID, "embeddings": "index"}
    exact = explain_retrieval(view, tiny_model(), key="exact", **options)
    run = explain_retrieval(
        view, tiny_model(), key="near", neighbors="index", **options
    )
    expected = find_suspects(exact, min_score=0)
    assert len(expected.findings) > 0
    assert not any("index" in limit for limit in expected.limits)
    found = find_suspects(run, min_score=0)
    what = [(one.kind, one.items) for one in found.findings]
    assert what == [(one.kind, one.items) for one in expected.findings]
    scores = [one.score for one in found.findings]
    assert scores == pytest.approx([one.score for one in expected.findings], abs=1e-4)
    [said] = [limit for limit in found.limits if "index" in limit]
    assert said.startswith(
        "Images were compared with those that the similarity index 'index' proposes"
    )
    dataset.delete_brain_run("index")
    again = find_suspects(run, min_score=0)
    assert [one.items for one in again.findings] == [
        one.items for one in found.findings
    ]
    [said] = [limit for limit in again.limits if "index" in limit]
    assert "cannot be used, so all images were compared: " in said
    assert "'index' is not the brain key of one" in said
