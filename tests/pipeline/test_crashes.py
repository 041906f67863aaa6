"""A run that is killed: at any of its writes, nothing is half done, and it goes on.

Writes are all that a process leaves behind. FIFTYONE_SFAM_KILLS says how many of them
are tried; ``make soak`` tries each, before and after.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from crash_support import CrashWorld, crash_world
from fiftyone_sfam.audit.comparison.compare import compare_runs
from fiftyone_sfam.audit.comparison.result import load_comparison
from fiftyone_sfam.audit.decisions import decide_pairs, load_decisions
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.audit.verification.verify import load_verification, verify_pairs
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.explain_pairs import explain_pairs
from fiftyone_sfam.pipeline.manage import delete_run, rename_run
from fiftyone_sfam.review.verdicts import get_verdicts, set_verdict
from fiftyone_sfam.runs.run import list_runs, load_run
from stored import stored_blobs, stored_numbers
from worlds import fill, fill_frames, tiny_model

KILLS = int(os.environ.get("FIFTYONE_SFAM_KILLS", "18"))
SEED = 30


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashWorld]:
    with crash_world(tmp_path_factory.mktemp("crashes")) as world:
        yield world


def trials(writes: int, count: int, seed: int) -> list[tuple[int, bool]]:
    """Writes to be killed at, spread over all: before one, or after it."""
    every = list(itertools.product(range(1, writes + 1), (False, True)))
    generator = np.random.default_rng(seed)
    edges = np.linspace(0, len(every), min(count, len(every)) + 1).astype(int)
    return [
        every[int(generator.integers(low, max(high, low + 1)))]
        for low, high in itertools.pairwise(edges)
    ]


def test_killed_at_any_write(world: CrashWorld) -> None:
    whole = world.worker.do(world.name)
    assert whole.status == 0
    writes = whole.writes
    delete_run(world.fresh(), "sfam")
    phases = set()
    for write, after in trials(len(writes), KILLS, SEED):
        # Shown when it fails.
        print(write, after, writes[write - 1])
        killed = world.worker.do(world.name, write=write, after=after)
        assert killed.status == -signal.SIGKILL
        phases.add(phase_of(writes[write - 1]))
        world.check_after_crash()
        world.check_rerun()
    wanted = {"embeddings", "maps", "pairs", "record", "fields", "result"}
    assert KILLS < 18 or wanted <= phases


def test_killed_while_another_run_is_replaced(world: CrashWorld) -> None:
    def old_run() -> None:
        explain_retrieval(world.fresh(), tiny_model(1), k=1)

    old_run()
    before = stored_numbers(world.fresh(), "sfam")
    whole = world.worker.do(world.name, overwrite=True)
    assert whole.status == 0
    writes = whole.writes
    delete_run(world.fresh(), "sfam")
    for write, after in trials(len(writes), KILLS // 2, SEED + 1):
        print(write, after, writes[write - 1])
        old_run()
        killed = world.worker.do(world.name, write=write, after=after, overwrite=True)
        assert killed.status == -signal.SIGKILL
        world.check_after_crash(before)
        world.check_rerun()


def test_killed_while_a_run_is_deleted(world: CrashWorld) -> None:
    assert world.worker.do(world.name).status == 0
    whole = world.worker.do(world.name, "delete")
    assert whole.status == 0
    writes = whole.writes
    for write, after in trials(len(writes), KILLS // 4, SEED + 2):
        print(write, after, writes[write - 1])
        assert world.worker.do(world.name).status == 0
        killed = world.worker.do(world.name, "delete", write, after=after)
        assert killed.status == -signal.SIGKILL
        world.check_after_crash()
        world.check_rerun()
    assert list_runs(world.fresh()) == ["other"]


@pytest.mark.parametrize("kind", ["images", "detections", "one detection each"])
def test_killed_while_a_run_is_renamed(
    world: CrashWorld, kind: str, tmp_path: Path
) -> None:
    """Its new key begins like the old one, and so do those of its fields."""
    dataset, frames = fo.Dataset(persistent=True), kind != "images"
    try:
        if frames:
            fill_frames(dataset, tmp_path, listed=kind == "detections")
        else:
            fill(dataset, tmp_path)
        run = explain_retrieval(
            dataset,
            tiny_model(),
            k=2,
            protocol=Protocol("label" if frames else "identity"),
            patches_field="people" if frames else None,
        )
        evaluate_retrieval(run, resamples=10)
        build_ledger(run, stripes=3)
        set_verdict(run, 1, "wrong label")
        before = everything(dataset, "sfam")
        names = {"dataset": dataset.name, "key": "sfam", "new_key": "sfam_two"}
        whole = world.worker.do(job="rename", **names)
        assert whole.status == 0
        dataset.reload()
        renamed = everything(dataset, "sfam_two")
        assert renamed == before
        rename_run(dataset, "sfam_two", "sfam")
        assert everything(dataset, "sfam") == before
        for write, after in trials(len(whole.writes), KILLS // 3, SEED + 3):
            print(write, after, whole.writes[write - 1])
            killed = world.worker.do(job="rename", write=write, after=after, **names)
            assert killed.status == -signal.SIGKILL
            dataset.reload()
            [key] = list_runs(dataset)
            assert contents(dataset, key) == before[0]
            if key == "sfam":
                rename_run(dataset, "sfam", "sfam_two")
            assert everything(dataset, "sfam_two") == renamed
            rename_run(dataset, "sfam_two", "sfam")
            assert everything(dataset, "sfam") == before
        # Whatever else is done to the run ends the renaming first.
        half = len(whole.writes) // 2
        world.worker.do(job="rename", write=half, **names)
        dataset.reload()
        rename_run(dataset, "sfam", "third")
        assert everything(dataset, "third") == before
        rename_run(dataset, "third", "sfam")
        world.worker.do(job="rename", write=half, **names)
        dataset.reload()
        delete_run(dataset, "sfam")
        assert stored_blobs(dataset) == 0
        assert not [one for one in dataset.get_field_schema(flat=True) if "sfam" in one]
        assert dataset.list_runs() == []
    finally:
        dataset.delete()


@pytest.mark.parametrize("earlier", [True, False])
def test_killed_while_pairs_are_verified_and_decided(
    world: CrashWorld, earlier: bool, tmp_path: Path
) -> None:
    """At every write, before and after it; an earlier result stays until then."""
    dataset = fill(fo.Dataset(persistent=True), tmp_path)
    paths = dataset.values("filepath")
    listed = [
        (paths[first], paths[second], "same" if first // 3 == second // 3 else 0)
        for first, second in itertools.combinations(range(6), 2)
    ]
    told = {"dataset": dataset.name, "threshold": 0.5}
    try:
        run = explain_pairs(dataset, tiny_model(), listed, key="given")
        set_verdict(run, 2, "wrong label")
        own = contents(dataset, "given")
        none = stored_results(dataset)
        assert none == (None, None)

        def restore() -> tuple[str | None, ...]:
            for name in ("verification", "decisions"):
                run.results.delete(name)
            if earlier:
                verify_pairs(run, threshold=0.1)
                decide_pairs(run, threshold=0.1)
            return stored_results(dataset)

        old = restore()
        whole = world.worker.do(job="verify", **told)
        assert whole.status == 0
        new = stored_results(dataset)
        assert None not in new
        assert len({*old, *new, None}) == (5 if earlier else 3)
        every = itertools.product(range(1, len(whole.writes) + 1), (False, True))
        states = []
        for write, after in every:
            print(write, after, whole.writes[write - 1])
            assert restore() == old
            killed = world.worker.do(job="verify", write=write, after=after, **told)
            assert killed.status == -signal.SIGKILL
            states.append(stored_results(dataset))
            kept = contents(dataset, "given")
            assert {name: kept[name] for name in own} == own
            assert world.worker.do(job="verify", **told).status == 0
            assert stored_results(dataset) == new
        # One after the other, and nothing in between.
        order = [old, (new[0], old[1]), new]
        assert list(dict.fromkeys(states)) == order
        assert [order.index(one) for one in states] == sorted(map(order.index, states))
        delete_run(dataset, "given")
        assert stored_blobs(dataset) == 0
        assert dataset.list_runs() == []
    finally:
        dataset.delete()


@pytest.mark.parametrize("renamed", [False, True])
def test_killed_while_runs_are_compared(
    world: CrashWorld, renamed: bool, tmp_path: Path
) -> None:
    """Until the new comparison is whole, the one before is there, if there is one.

    The one before has another name if its second run was renamed.
    """
    dataset = fo.Dataset(persistent=True)
    try:
        fill(dataset, tmp_path)
        options = {"k": 2, "protocol": Protocol("identity")}
        explain_retrieval(dataset, tiny_model(0), key="first", **options)
        explain_retrieval(dataset, tiny_model(1), key="second", **options)
        evaluate_retrieval(load_run(dataset, "first"), resamples=10)
        keys = ["first", "third" if renamed else "second"]
        job = {"job": "compare", "dataset": dataset.name, "keys": keys}

        def reset() -> None:
            """Compare as before, then rename the second run."""
            runs = [load_run(dataset, key) for key in list_runs(dataset)]
            for name in runs[0].results.names():
                if name.startswith("comparison_"):
                    runs[0].results.delete(name)
            if renamed and runs[1].key == "third":
                rename_run(dataset, "third", "second")
            compare_runs(runs[0], load_run(dataset, "second"), resamples=10)
            if renamed:
                rename_run(dataset, "second", "third")

        def comparison() -> tuple[Any, ...]:
            found = load_comparison(*(load_run(dataset, key) for key in keys))
            assert found is not None
            values = {**vars(found), "created": ""}
            return found.resamples, repr(values), found.change.tobytes()

        def others() -> Any:
            found = [contents(dataset, key) for key in keys]
            return [
                {name: one for name, one in of_run.items() if "comparison" not in name}
                for of_run in found
            ]

        reset()
        before, kept = comparison(), others()
        whole = world.worker.do(**job, resamples=20)
        assert whole.status == 0
        dataset.reload()
        after = comparison()
        assert (before[0], after[0]) == (10, 20)
        seen = set()
        for write, late in itertools.product(
            range(1, len(whole.writes) + 1), (False, True)
        ):
            print(write, late, whole.writes[write - 1])
            reset()
            killed = world.worker.do(**job, resamples=20, write=write, after=late)
            assert killed.status == -signal.SIGKILL
            dataset.reload()
            found = comparison()
            assert found in (before, after)
            seen.add(found[0])
            assert others() == kept
            assert world.worker.do(**job, resamples=20).status == 0
            dataset.reload()
            assert comparison() == after
            names = load_run(dataset, "first").results.names()
            assert names == [f"comparison_{keys[1]}", "evaluation"]
        assert seen == {10, 20}
        # What was interrupted goes with its run.
        for key in keys:
            delete_run(dataset, key)
        assert stored_blobs(dataset) == 0
    finally:
        dataset.delete()


def stored_results(dataset: fo.Dataset) -> tuple[str | None, ...]:
    """The verification and the decisions of the run 'given', but their times."""
    dataset.reload()
    run = load_run(dataset, "given")
    found = load_verification(run), load_decisions(run)
    return tuple(
        None if one is None else repr(one).replace(getattr(one, "created", "-"), "")
        for one in found
    )


def everything(dataset: fo.Dataset, key: str) -> tuple[Any, ...]:
    """What is stored of a run: its contents, its fields and the samples' documents.

    Its key is left out of all names.
    """

    def named(name: str) -> str:
        return re.sub(rf"^{key}(?=_|:|$)", "KEY", name)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                named(name): plain(one)
                for name, one in sorted(value.items())
                if one is not None and name != "last_modified_at"
            }
        if isinstance(value, list):
            return [plain(one) for one in value]
        return named(value) if isinstance(value, str) else value

    schema = {
        ".".join(map(named, path.split(".")))
        for path in dataset.get_field_schema(flat=True)
    }
    documents = [plain(one) for one in dataset._sample_collection.find().sort("_id")]
    run = load_run(dataset, key)
    assert run.config.renamed_to in (None, key)
    results = {
        name: [".".join(map(named, path.split("."))) for path in result.fields]
        for name in run.results.names()
        if (result := run.results.load(name)) is not None
    }
    return contents(dataset, key), schema, documents, results


def contents(dataset: fo.Dataset, key: str) -> dict[str, Any]:
    """What a run and its audits have found."""
    run = load_run(dataset, key)
    found: dict[str, Any] = {"verdicts": get_verdicts(run)}
    found["scores"] = run.pairs.similarity.tobytes()
    found["maps"] = [
        side.maps["sfam"].tobytes()
        for pair in run.many_maps(range(len(run.pairs)))
        for side in (pair.query, pair.gallery)
        if side is not None
    ]
    for name in run.results.names():
        result = run.results.load(name)
        assert result is not None
        found |= {f"{name}.{one}": it.tobytes() for one, it in result.arrays.items()}
    return found


def phase_of(write: str) -> str:
    """Name what a run was doing."""
    blob = re.search(r"/(\w+?)(-|$)", write)
    if blob is not None:
        return {"table": "pairs"}.get(blob[1], blob[1])
    if "update samples." in write:
        return "fields"
    return "record" if "runs" in write else "schema"
