"""Runs of pairs that are given as a list."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.explain_pairs import explain_pairs
from fiftyone_sfam.pipeline.manage import delete_run, rename_run
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, TRUE_MATCH, UNLABELED
from fiftyone_sfam.runs.run import list_runs, load_run
from stored import assert_same, interrupt_after, numbers_of, stored_blobs
from worlds import PassCounter, embeddings_of, fill, fill_frames, tiny_model

# Images are IDENTITY-SHOT.png; identities are p0 to p3.
PAIRS = [
    ("1-0", "1-1", "same"),
    ("1-0", "2-2", "different"),
    ("0-0", "0-1", None),
    ("0-0", "3-1", None),
    ("1-1", "1-0", "same"),  # the first pair, mirrored
    ("1-0", "2-2", "different"),  # again
    ("0-0", "nobody", "same"),  # missing
    ("1-0", "1-2", "different"),  # contradicts the identities
]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    import fiftyone as fo

    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("people"))
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def run(people):
    return explain_pairs(people, tiny_model(), PAIRS, identity_field="identity")


def names_of(run, items):
    paths = dict(zip(*run.dataset.values(["id", "filepath"]), strict=True))
    return [paths[run.items.sample_ids[item]].split("/")[-1][:-4] for item in items]


def test_the_pairs_are_those_of_the_list_query_by_query(run):
    pairs = run.pairs
    shown = list(
        zip(names_of(run, pairs.query), names_of(run, pairs.gallery), strict=True)
    )
    assert sorted(shown) == sorted({pair[:2] for pair in PAIRS} - {("0-0", "nobody")})
    assert [query for query, _ in shown] == ["0-0"] * 2 + ["1-0"] * 3 + ["1-1"]
    assert pairs.rank.tolist() == [1, 2, 1, 2, 3, 1]
    assert (np.diff(pairs.distance)[[0, 2, 3]] > 0).all()
    by_pair = dict(zip(shown, pairs.outcome.tolist(), strict=True))
    assert by_pair == {
        ("1-0", "1-1"): TRUE_MATCH,
        ("1-0", "2-2"): FALSE_MATCH,
        ("0-0", "0-1"): TRUE_MATCH,
        ("0-0", "3-1"): FALSE_MATCH,
        ("1-1", "1-0"): TRUE_MATCH,
        ("1-0", "1-2"): FALSE_MATCH,
    }


def test_similarities_are_those_of_the_embeddings(run, people):
    vectors = embeddings_of(tiny_model(), people.values("filepath")).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    place = {sample: row for row, sample in enumerate(people.values("id"))}
    for pair, (query, gallery) in enumerate(
        zip(run.pairs.query, run.pairs.gallery, strict=True)
    ):
        rows = [place[run.items.sample_ids[item]] for item in (query, gallery)]
        expected = vectors[rows[0]] @ vectors[rows[1]]
        assert run.pairs.similarity[pair] == pytest.approx(expected, abs=1e-6)
        assert run.pairs.distance[pair] == pytest.approx(1 - expected, abs=1e-6)


def test_maps_are_those_of_a_retrieval(run, people):
    searched = explain_retrieval(people, tiny_model(), key="all", k=11)
    ids = searched.items.ids[np.stack([searched.pairs.query, searched.pairs.gallery])]
    place = {tuple(pair): index for index, pair in enumerate(ids.T.tolist())}
    for pair, maps in enumerate(run.many_maps(range(len(run.pairs)))):
        sides = run.items.ids[[run.pairs.query[pair], run.pairs.gallery[pair]]]
        other = searched.maps(place[tuple(sides.tolist())])
        for side in ("query", "gallery"):
            here, there = getattr(maps, side), getattr(other, side)
            assert here.score == pytest.approx(there.score, abs=1e-6)
            for kind in ("sfam", "evidence"):
                np.testing.assert_allclose(here.maps[kind], there.maps[kind], atol=1e-6)


def test_every_row_of_the_list_knows_its_pair(run):
    given = load_run(run.dataset, run.key).given
    assert given.listed.query == tuple(pair[0] for pair in PAIRS)
    assert given.reasons == {6: "'nobody' is not in the view."}
    assert given.pair[6] == -1
    assert given.pair[1] == given.pair[5]
    rows = [row for row in range(len(PAIRS)) if row != 6]
    assert names_of(run, run.pairs.query[given.pair[rows]]) == [
        PAIRS[row][0] for row in rows
    ]
    assert names_of(run, run.pairs.gallery[given.pair[rows]]) == [
        PAIRS[row][1] for row in rows
    ]
    assert sorted(given.row.tolist()) == [0, 1, 2, 3, 4, 7]
    assert given.pair[given.row].tolist() == list(range(6))


def test_the_summary_counts_pairs_and_rows_and_claims_no_rank(run):
    assert run.summary() == {
        "images": 7,
        "queries": 3,
        "pairs": 6,
        "skipped": 0,
        "true match": 3,
        "false match": 3,
        "unlabeled": 0,
        "rows": 8,
        "rows skipped": 1,
        "rank1": None,
        "maps": run.map_check.sentence,
        "warnings": [],
    }
    assert run.config.pair_source == "list"
    assert run.config.k == 3  # pairs of the query with the most


def test_the_queries_get_the_fields_of_their_pairs(run, people):
    neighbors = dict(zip(*people.values(["filepath", "pairs_neighbors"]), strict=True))
    filled = {path.split("/")[-1]: value for path, value in neighbors.items() if value}
    assert set(filled) == {"0-0.png", "1-0.png", "1-1.png"}
    shown = filled["1-0.png"].classifications
    assert [one.rank for one in shown] == [1, 2, 3]
    assert sorted(one.label for one in shown) == ["p1", "p1", "p2"]
    assert people.count("pairs.map") == 3
    assert people.count("pairs_score") == 3


@pytest.mark.parametrize("count", [5, 30])
def test_each_image_passes_once_however_many_pairs(people, count):
    model = tiny_model()
    everyone = [f"{identity}-{shot}" for identity in range(2) for shot in range(3)]
    every = [(a, b) for a in everyone for b in everyone if a != b]
    # Six images in five pairs, or in all thirty.
    pairs = every[:: 30 // count]
    assert len(pairs) == count
    assert {name for pair in pairs for name in pair} == set(everyone)
    people.set_values("vector", list(embeddings_of(model, people.values("filepath"))))
    counter = PassCounter(model)
    run = explain_pairs(
        people, model, pairs, key=f"passes{count}", embeddings="vector", batch_size=4
    )
    assert len(run.pairs) == count
    assert counter.images == 6
    counter.images = 0
    explain_pairs(people, model, pairs, key=f"passes{count}", overwrite=True)
    # Another one measures what an image takes in the cache.
    assert counter.images == 6 + 1


def test_an_interrupted_run_resumes_and_equals_an_uninterrupted_one(people):
    options = {"identity_field": "identity", "batch_size": 2}
    whole = explain_pairs(people, tiny_model(), PAIRS, key="whole", **options)
    with pytest.raises(KeyboardInterrupt):
        explain_pairs(
            people,
            tiny_model(),
            PAIRS,
            key="again",
            progress=interrupt_after(2, "explaining"),
            **options,
        )
    assert "again" not in list_runs(people)
    model = tiny_model()
    counter = PassCounter(model)
    again = explain_pairs(people, model, PAIRS, key="again", **options)
    # Of the seven images, those of two shards and all embeddings are stored.
    assert counter.images < 7
    assert_same(numbers_of(again), numbers_of(whole))
    # Other labels are other work, although the maps are the same.
    swapped = [(*pair[:2], None) for pair in PAIRS]
    other = explain_pairs(people, model, swapped, key="other", **options)
    assert other.config.fingerprint != whole.config.fingerprint


def test_a_run_is_renamed_and_deleted_with_its_list(world):
    before = stored_blobs(world)
    run = explain_pairs(world, tiny_model(), PAIRS[:4], key="first")
    assert run.pairs.outcome.tolist().count(UNLABELED) == 2
    rename_run(world, "first", "second")
    assert load_run(world, "second").given.listed.query == ("1-0", "1-0", "0-0", "0-0")
    assert world.count("second_score") == 2
    delete_run(world, "second")
    assert stored_blobs(world) == before
    assert not world.has_field("second_score")


# -- rankings --------------------------------------------------------------------------


def test_a_ranking_keeps_its_ranks_and_scores(people):
    table = pd.DataFrame(
        {
            "q": ["0-0", "0-0", "0-0", "1-0", "1-0"],
            "g": ["3-0", "0-1", "nobody", "1-2", "2-0"],
            "place": [2, 1, 3, 4, 2],
            "jaccard": [0.5, 0.9, 0.1, -1.5, 0.25],
        }
    )
    columns = {"query": "q", "gallery": "g", "rank": "place", "score": "jaccard"}
    run = explain_pairs(
        people,
        tiny_model(),
        table,
        key="reranked",
        columns=columns,
        identity_field="identity",
    )
    assert run.config.pair_source == "ranking"
    assert run.pairs.rank.tolist() == [1, 2, 2, 4]
    assert names_of(run, run.pairs.gallery) == ["0-1", "3-0", "2-0", "1-2"]
    assert run.given.listed.score[run.given.row].tolist() == [0.9, 0.5, 0.25, -1.5]
    summary = run.summary()
    # Of the queries with a first neighbor.
    assert (summary["true match"], summary["false match"]) == (1, 0)
    assert summary["rank1"] == 1.0
    assert (summary["queries"], summary["rows"], summary["rows skipped"]) == (2, 5, 1)
    shown = people.match({"reranked_neighbors": {"$ne": None}})
    ranks = [
        [one.rank for one in neighbors.classifications]
        for neighbors in shown.values("reranked_neighbors")
    ]
    assert ranks == [[1, 2], [2, 4]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("0-0", "0-1", 1), ("0-0", "0-2", 1)],
            "the query '0-0' two gallery images of rank 1 (row 1)",
        ),
        ([("0-0", "0-1", 1), ("0-0", "0-2", None)], "row 1 of the list has no rank"),
        (
            [("0-0", "0-1", 1), ("0-0", "0-1", 2)],
            "the pair '0-0', '0-1' twice, with different ranks (row 1)",
        ),
    ],
)
def test_ranks_that_contradict_each_other_are_refused(people, rows, message):
    table = pd.DataFrame(rows, columns=["query", "gallery", "rank"])
    with pytest.raises(DataError) as error:
        explain_pairs(people, tiny_model(), table, key="broken")
    assert message in str(error.value)
    assert "broken" not in list_runs(people)


def test_labels_that_contradict_each_other_are_refused(people):
    rows = [("0-0", "0-1", "same"), ("0-0", "0-1", "different")]
    with pytest.raises(DataError, match="twice, with different labels"):
        explain_pairs(people, tiny_model(), rows, key="broken")


# -- which images ----------------------------------------------------------------------


def test_broken_images_are_skipped_with_their_pairs(world, tmp_path):
    broken = world.values("filepath")[1]
    with open(broken, "wb") as file:
        file.write(b"no image")
    run = explain_pairs(world, tiny_model(), PAIRS[:4])
    assert len(run.pairs) == 3
    assert [image.filepath for image in run.skipped] == [broken]
    assert list(run.given.reasons) == [2]
    assert run.given.reasons[2].startswith("'0-1.png': ")
    with pytest.raises(DataError, match=r"no pair of the list can be explained; the"):
        explain_pairs(world, tiny_model(), [PAIRS[2], PAIRS[2]], key="none")


def test_names_of_a_field_and_ids_of_detections(dataset, tmp_path):
    fill_frames(dataset, tmp_path)
    ids = [one for row in dataset.values("people.detections.id") for one in row]
    run = explain_pairs(
        dataset,
        tiny_model(),
        [(ids[0], ids[4]), (ids[0], ids[5])],
        patches_field="people",
        identity_field="label",
    )
    assert run.items.ids.tolist() == [ids[0], ids[4], ids[5]]
    labels = [one for row in dataset.values("people.detections.label") for one in row]
    assert run.pairs.outcome.tolist() == [
        FALSE_MATCH
        if labels[0] != labels[ids.index(run.items.ids[item])]
        else TRUE_MATCH
        for item in run.pairs.gallery
    ]
    dataset.set_values("name", [f"n{number}" for number in range(len(dataset))])
    named = explain_pairs(
        dataset, tiny_model(), [("n0", "n2")], key="named", name_field="name"
    )
    assert named.items.sample_ids.tolist() == [
        dataset.values("id")[at] for at in (0, 2)
    ]
    with pytest.raises(DataError, match="has no field 'nome' with the names of the"):
        explain_pairs(dataset, tiny_model(), [("n0", "n2")], key="x", name_field="nome")
