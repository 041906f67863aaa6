"""Contributions that are kept with a run, and what they explain without the model."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest

from fiftyone_sfam.attribution import contributions as maps_of
from fiftyone_sfam.attribution.pair import explain_contrast, explain_pair
from fiftyone_sfam.attribution.template import explain_template
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run, rename_run
from fiftyone_sfam.pipeline.pruning import prune
from fiftyone_sfam.runs.blobs import BlobStore
from fiftyone_sfam.runs.run import Run, load_run
from fiftyone_sfam.runs.run_config import RunSettings
from stored import stored_blobs
from worlds import FRAME, REID, tiny_model


def error_of(stored, live) -> float:
    """Largest difference, relative to the largest number."""
    return float(np.abs(stored - live).max() / np.abs(live).max())


def contribution_blobs(run: Run) -> dict[str, bytes]:
    bucket = run.store._bucket
    return {
        name: bucket.get(f"{run.store.uid}/{name}").read()
        for name in sorted(run.store.names())
        if name.startswith("contributions-")
    }


# -- what they explain -----------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_any_two_images_are_explained_from_the_database(world, metric):
    model = tiny_model(metric=metric)
    explain_retrieval(world, model, k=1, protocol=REID, contributions="float16")
    run = load_run(world, "sfam")
    ids, paths = world.values("id"), world.values("filepath")
    pairs = set(zip(run.pairs.query.tolist(), run.pairs.gallery.tolist(), strict=True))
    other = next(at for at in range(1, 12) if {(0, at), (at, 0)}.isdisjoint(pairs))
    stored = run.explain_stored(ids[0], ids[other], impostor_id=ids[5])
    live = explain_pair(model, paths[0], paths[other])
    assert stored.score == pytest.approx(live.score, abs=1e-6)
    for side in ("query", "gallery"):
        kept, shown = getattr(stored, side), getattr(live, side)
        assert error_of(kept.evidence, shown.evidence) < 1e-3
        assert kept.remainder == pytest.approx(shown.remainder, abs=1e-4)
        assert abs(kept.error) < 1e-3
        assert kept.crop == pytest.approx(shown.crop)
        assert kept.size == (8, 16)
        for row, column in ((0, 0), (5, 2)):
            expected = live.point(row, column, side)
            gap = np.abs(stored.point(row, column, side) - expected).max()
            assert gap < 1e-3 * np.abs(stored.points()).max()
    np.testing.assert_allclose(stored.points()[3, 1], stored.point(3, 1), rtol=1e-5)
    for kept, shown in zip(stored.difference(), live.difference(), strict=True):
        assert error_of(kept.evidence, shown.evidence) < 1e-3
        assert kept.score == pytest.approx(shown.score, abs=1e-5)
    margin = explain_contrast(model, paths[0], paths[other], paths[5])
    assert error_of(stored.contrast.evidence, margin.evidence) < 2e-3
    assert stored.contrast.score == pytest.approx(margin.score, abs=1e-6)
    first, second = stored.decision(0.25)
    assert first.score == pytest.approx(live.score - 0.25, abs=1e-6)
    assert second.score == pytest.approx(first.score, abs=1e-6)
    assert (first.error, second.error) == pytest.approx((0, 0), abs=1e-3)


def test_eight_bits_agree_with_the_maps_of_the_run(world):
    run = explain_retrieval(
        world,
        tiny_model(),
        k=2,
        protocol=REID,
        map_dtype="float32",
        contributions="int8",
    )
    correlations = []
    for pair, maps in enumerate(run.many_maps(range(len(run.pairs)))):
        ids = [
            str(run.items.ids[i[pair]]) for i in (run.pairs.query, run.pairs.gallery)
        ]
        stored = run.explain_stored(*ids)
        for side in ("query", "gallery"):
            live = getattr(maps, side).maps["evidence"].ravel()
            kept = getattr(stored, side).evidence.ravel()
            correlations.append(np.corrcoef(kept, live)[0, 1])
    summary = run.summary()
    least, median = summary["contribution_agreement"]
    assert least == pytest.approx(min(correlations), abs=1e-5)
    assert median == pytest.approx(np.median(correlations), abs=1e-5)
    assert least > 0.995
    image = run.contributions(str(run.items.ids[0]))
    height, width, size = image.values.shape
    # Values, scales, remainder with its scale, embedding, crop and size.
    expected = height * width * (size + 4) + 2 * size + 4 + 4 * size + 16 + 8
    assert summary["contribution_bytes"] == expected


def test_a_projection_takes_fewer_bytes(world):
    model = tiny_model()
    options = {"k": 2, "protocol": REID, "contributions": "float16"}
    whole = explain_retrieval(world, model, key="whole", **options)
    small = explain_retrieval(world, model, key="small", contribution_dims=3, **options)
    item = str(small.items.ids[4])
    basis = small.contribution_basis
    assert basis.shape[0] == 3
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-6)
    projected = whole.contributions(item).values @ basis.T
    assert error_of(small.contributions(item).values, projected) < 1e-3
    assert small.config.contribution_dims == 3
    assert small.config.contribution_bytes < whole.config.contribution_bytes
    least, median = small.config.contribution_agreement
    assert 0.9 < least < median < whole.config.contribution_agreement[1]
    # The part of the score that the projection loses is stated.
    pair = small.explain_stored(item, str(small.items.ids[9]))
    left = pair.score - pair.query.evidence.sum() - pair.query.remainder
    assert pair.query.error == pytest.approx(left, abs=1e-6)


def test_as_many_directions_as_numbers_are_no_projection(world):
    run = explain_retrieval(
        world, tiny_model(), k=1, contributions="int8", contribution_dims=4096
    )
    assert run.config.contribution_dims is None
    assert run.contribution_basis is None
    image = run.contributions(str(run.items.ids[0]))
    assert image.values.shape[2] == len(image.embedding)


def test_gallery_images_that_are_no_neighbors_are_kept_too(world):
    protocol = Protocol(
        "identity", camera_field="camera", split_field="split", junk=["p3"]
    )
    options = {"k": 1, "protocol": protocol, "batch_size": 4}
    plain = explain_retrieval(world, tiny_model(), key="plain", **options)
    run = explain_retrieval(world, tiny_model(), contributions="int8", **options)
    run = load_run(world, "sfam")
    members = np.flatnonzero(run.items.is_query | run.items.is_gallery)
    assert len(members) == 9
    assert len(np.unique(run.pairs.sides())) < 9
    for item in members:
        embedding = run.contributions(str(run.items.ids[item])).embedding
        np.testing.assert_allclose(embedding, run.embeddings()[item], atol=1e-6)
    # The maps of the pairs are those of a run without contributions.
    for kept, maps in zip(
        run.many_maps(range(len(run.pairs))),
        plain.many_maps(range(len(plain.pairs))),
        strict=True,
    ):
        assert error_of(kept.query.maps["sfam"], maps.query.maps["sfam"]) < 1e-6
    left_out = str(run.items.ids[10])
    with pytest.raises(RunError, match=r"nothing of the image .* leaves it out"):
        run.contributions(left_out)


def test_detections(frames):
    run = explain_retrieval(
        frames, tiny_model(), k=1, patches_field="people", contributions="int8"
    )
    ids = [str(label) for label in run.items.label_ids[:2]]
    pair = run.explain_stored(*ids)
    assert pair.query.size == (FRAME, FRAME)
    assert pair.score == pytest.approx(
        maps_of.similarity_of(run.embeddings()[0], run.embeddings()[1]), abs=1e-6
    )
    with pytest.raises(RunError, match=r"no detection .*12 detections"):
        run.contributions(str(run.items.sample_ids[0]))


def test_a_template_explains_an_image(world):
    run = explain_retrieval(world, tiny_model(), k=1, contributions="float16")
    template = run.embeddings()[:3].mean(0)
    image = run.contributions(str(run.items.ids[7]))
    result = maps_of.evidence(image, template)
    expected = image.embedding @ template
    expected /= np.linalg.norm(image.embedding) * np.linalg.norm(template)
    assert result.score == pytest.approx(expected, abs=1e-6)
    assert abs(result.error) < 1e-3


READER = """
import json, sys
import fiftyone as fo
from fiftyone_sfam import load_run
run = load_run(fo.load_dataset(sys.argv[1]), "sfam")
pair = run.explain_stored(*sys.argv[2:4], impostor_id=sys.argv[4])
print(json.dumps({
    "torch": [name for name in sys.modules if name.partition(".")[0] == "torch"],
    "score": pair.score,
    "evidence": pair.query.evidence.tolist(),
    "contrast": pair.contrast.evidence.tolist(),
    "point": pair.point(2, 1, "gallery").tolist(),
}))
"""


def test_a_process_without_torch_explains_a_pair(world):
    explain_retrieval(world, tiny_model(), k=1, contributions="int8")
    ids = [world.values("id")[at] for at in (0, 6, 9)]
    done = subprocess.run(
        [sys.executable, "-c", READER, world.name, *ids],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["torch"] == []
    paths = world.values("filepath")
    live = explain_pair(tiny_model(), paths[0], paths[6])
    margin = explain_contrast(tiny_model(), *(paths[at] for at in (0, 6, 9)))
    assert told["score"] == pytest.approx(live.score, abs=1e-6)
    assert error_of(np.array(told["evidence"]), live.query.evidence) < 0.02
    assert error_of(np.array(told["contrast"]), margin.evidence) < 0.02
    assert error_of(np.array(told["point"]), live.point(2, 1, "gallery")) < 0.03


# -- the life of a run -----------------------------------------------------------------


def test_without_contributions_nothing_is_kept_and_the_fingerprint_is_the_same(world):
    run = explain_retrieval(world, tiny_model(), k=1)
    assert contribution_blobs(run) == {}
    assert "contribution_bytes" not in run.summary()
    with pytest.raises(
        RunError, match=r"no stored contributions; .*contributions='int8'"
    ):
        run.explain_stored(*world.values("id")[:2])
    settings = {
        name: getattr(run.config, name) for name in RunSettings.__dataclass_fields__
    }
    # What the fingerprint of version 0.8 digests.
    assert set(RunSettings(**settings).facts()) == {
        "model",
        "weights_hash",
        "metric",
        "k",
        "kinds",
        "weights",
        "map_dtype",
        "protocol",
        "patches_field",
        "embeddings",
        "shard_images",
        "order",
        "neighbors",
        "precision",
        "part_pairs",
        "versions",
    }
    kept = RunSettings(**settings | {"contributions": "int8"}).facts()
    assert kept["contributions"] == "int8"
    assert "contribution_dims" not in kept


def test_an_interrupted_run_resumes_with_the_same_bytes(world, monkeypatch):
    options = {"k": 2, "batch_size": 4, "contributions": "int8", "contribution_dims": 3}
    whole = explain_retrieval(world, tiny_model(), key="whole", **options)
    calls = []
    put = BlobStore.put

    def stop_at_the_second_shard(self, name, *arrays):
        # Its contributions are stored already, the shard is not.
        if name == "maps-000001" and not calls:
            calls.append(name)
            raise KeyboardInterrupt
        put(self, name, *arrays)

    monkeypatch.setattr(BlobStore, "put", stop_at_the_second_shard)
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(world, tiny_model(), key="cut", **options)
    run = explain_retrieval(world, tiny_model(), key="cut", **options)
    assert calls == ["maps-000001"]
    assert contribution_blobs(run) == contribution_blobs(whole)
    assert len(contribution_blobs(run)) == 3
    assert run.config.contribution_agreement == whole.config.contribution_agreement
    assert run.config.contribution_bytes == whole.config.contribution_bytes
    with_other_bits = explain_retrieval(
        world, tiny_model(), key="other", **options | {"contributions": "float16"}
    )
    assert with_other_bits.config.uid != run.config.uid


def test_renamed_pruned_and_deleted_with_the_run(world):
    run = explain_retrieval(world, tiny_model(), k=1, contributions="int8")
    item = str(run.items.ids[2])
    before = run.contributions(item).values
    rename_run(world, "sfam", "other")
    assert prune(world, older_than=timedelta(0), delete=True) == ()
    np.testing.assert_array_equal(
        load_run(world, "other").contributions(item).values, before
    )
    explain_retrieval(world, tiny_model(), k=1, key="other", overwrite=True)
    assert contribution_blobs(load_run(world, "other")) == {}
    explain_retrieval(
        world, tiny_model(), k=1, key="other", overwrite=True, contributions="int8"
    )
    delete_run(world, "other")
    assert stored_blobs(world) == 0


def test_an_image_that_cannot_be_read_has_none(world, tmp_path):
    broken = world.skip(4).first()
    with open(broken.filepath, "wb") as file:
        file.write(b"no image")
    run = explain_retrieval(world, tiny_model(), k=1, contributions="int8")
    with pytest.raises(RunError, match=f"nothing of the image '{broken.id}': .*read"):
        run.contributions(broken.id)
    assert (
        run.contributions(str(run.items.ids[5])).values.shape[:2]
        == run.config.map_shape[1:]
    )
    with pytest.raises(
        RunError, match="no image 'nobody'; give the id of one of its 12"
    ):
        run.contributions("nobody")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contributions": "int4"}, "unknown contributions 'int4'; use one of int8"),
        ({"contribution_dims": 8}, "contribution_dims is 8, but no contributions"),
        (
            {"contributions": "int8", "contribution_dims": 0},
            "contribution_dims is 0; a whole number from 1",
        ),
    ],
)
def test_options_that_cannot_be_used(world, options, message):
    with pytest.raises(DataError, match=message):
        explain_retrieval(world, tiny_model(), **options)
    assert stored_blobs(world) == 0


def test_contributions_of_an_image_that_are_too_large(world, monkeypatch):
    monkeypatch.setattr("fiftyone_sfam.runs.blobs.LARGEST_ROW", 500)
    with pytest.raises(DataError, match=r"take \d+ bytes, .*\(500\); give"):
        explain_retrieval(world, tiny_model(), k=1, contributions="int8")
    assert stored_blobs(world) == 0


# -- templates -------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_templates_are_explained_from_the_database(world, metric):
    model = tiny_model(metric=metric)
    options = {"protocol": REID, "contributions": "float16"}
    run = explain_retrieval(world, model, k=1, **options)
    ids, paths = world.values("id"), world.values("filepath")
    for probe, members, normalize in (
        ([0], [1, 2, 7], True),
        ([3, 4], [5, 9], False),
    ):
        stored = run.explain_template(
            [ids[at] for at in probe] if len(probe) > 1 else ids[probe[0]],
            [ids[at] for at in members],
            normalize_members=normalize,
        )
        live = explain_template(
            model,
            [paths[at] for at in probe],
            [paths[at] for at in members],
            normalize_members=normalize,
        )
        assert stored.score == pytest.approx(live.score, abs=1e-6)
        assert stored.distance == pytest.approx(live.distance, abs=1e-6)
        np.testing.assert_allclose(stored.shares, live.shares, atol=1e-6)
        for side in ("probe", "members"):
            for kept, computed in zip(
                getattr(stored, side), getattr(live, side), strict=True
            ):
                assert error_of(kept.evidence, computed.evidence) < 2e-3
                assert kept.score == pytest.approx(computed.score, abs=1e-6)
                assert kept.crop == computed.crop
    with pytest.raises(RunError, match="give a list with at least one id each"):
        run.explain_template(ids[0], ids[1])
    with pytest.raises(RunError, match="has no image 'nobody'; give the id of one"):
        run.explain_template(ids[0], ["nobody"])
