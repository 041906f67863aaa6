"""What the component of findings asks: pictures of the right images, and verdicts."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_sfam.app.audit import findings as asked
from fiftyone_sfam.app.audit.findings import finding_key
from fiftyone_sfam.audit.fixes.find import find_fixes
from fiftyone_sfam.audit.suspects.review import pairs_of_proposal, review_suspects
from fiftyone_sfam.audit.suspects.search import (
    DUPLICATE,
    HUB,
    MERGED,
    MISLABELED,
    SPLIT,
    UNINFORMATIVE,
    Finding,
    find_suspects,
    load_suspects,
)
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run
from fiftyone_sfam.review.verdicts import get_verdicts, set_verdict
from fiftyone_sfam.runs.run import Run
from panel_support import AuditPanel as Shown
from worlds import REID, fill, fill_frames, mislabel, small_crops, tiny_model


@pytest.fixture
def doubted(tmp_path: Path) -> Iterator[Run]:
    """A run with suspects, and without verdicts."""
    dataset = small_crops(tmp_path)
    mislabel(dataset, 5)
    run = explain_retrieval(dataset, "demo", k=3, protocol=REID)
    find_suspects(run, kinds=[MISLABELED, SPLIT, MERGED], min_score=0.1)
    yield run
    dataset.delete()


def of_run(run: Run, **params: Any) -> dict[str, Any]:
    return {"run": run.key, "uid": run.config.uid, **params}


def ask(run: Run, question: str, **params: Any) -> dict[str, Any]:
    return Shown(run.dataset).ask(question, **of_run(run, **params))


def listed(run: Run, **params: Any) -> dict[str, Any]:
    answer = ask(run, "findings", **params)
    assert "problem" not in answer
    return answer


def groups(finding: dict[str, Any]) -> dict[str, list[int]]:
    return {group["role"]: group["items"] for group in finding["groups"]}


def decoded(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def first_of(run: Run, kind: str) -> Finding:
    return next(one for one in load_suspects(run).findings if one.kind == kind)


# --------------------------------------------------------------------------------------
# What is shown
# --------------------------------------------------------------------------------------


def test_findings_come_in_order_with_their_texts(doubted: Run) -> None:
    findings = load_suspects(doubted).findings
    answer = listed(doubted, start=0, count=20)
    assert answer["total"] == len(findings) > 3
    assert [one["key"] for one in answer["findings"]] == [
        finding_key(one) for one in findings[:20]
    ]
    for shown, finding in zip(answer["findings"], findings, strict=False):
        assert shown["sentence"] == finding.sentence
        assert shown["proposal"] == finding.proposal
        assert shown["score"] == f"{finding.score:.2f}"
        assert shown["probable"] is True
        assert shown["answer"] == ""
    assert answer["expected"].startswith("Expected among all labels: ")
    second = listed(doubted, start=2, count=1)
    assert [one["key"] for one in second["findings"]] == [finding_key(findings[2])]
    assert second["total"] == len(findings)


def test_findings_of_a_kind_and_of_a_score(doubted: Run) -> None:
    findings = load_suspects(doubted).findings
    kinds = [one.kind for one in findings]
    answer = listed(doubted, kind=MISLABELED, count=20)
    assert answer["total"] == kinds.count(MISLABELED)
    assert {one["kind"] for one in answer["findings"]} == {MISLABELED}
    labels = {one["name"]: one["label"] for one in answer["kinds"]}
    assert labels[MISLABELED] == f"{MISLABELED} ({kinds.count(MISLABELED)})"
    least = sorted(one.score for one in findings)[len(findings) // 2]
    answer = listed(doubted, min_probability=least)
    assert answer["total"] == sum(one.score >= least for one in findings)
    assert 0 < answer["total"] < len(findings)


def test_a_mislabeled_image_is_between_its_two_identities(doubted: Run) -> None:
    finding = first_of(doubted, MISLABELED)
    names = doubted.items.identities
    (shown,) = [
        one
        for one in listed(doubted, count=20)["findings"]
        if one["key"] == finding_key(finding)
    ]
    of_role = groups(shown)
    assert {*of_role["doubted"]} == {*finding.changes}
    assert {names[item] for item in of_role["own"]} == {finding.identities[0]}
    assert {names[item] for item in of_role["other"]} == {finding.identities[1]}
    assert not {*of_role["doubted"]} & {*of_role["own"]}
    titles = {group["role"]: group["title"] for group in shown["groups"]}
    assert titles["own"] == f"Labeled {finding.identities[0]}"
    assert titles["other"] == f"Labeled {finding.identities[1]}"
    # Everybody of the two identities is shown or counted.
    for group in shown["groups"][1:]:
        name = finding.identities[("own", "other").index(group["role"])]
        people = [i for i, one in enumerate(names) if one == name]
        left = len({*people} - {*finding.changes})
        assert len(group["items"]) + group["more"] == left
        assert len(group["items"]) <= 4
    # The nearest one comes first.
    near = doubted.pairs.of_query(finding.changes[0])
    partners = doubted.pairs.gallery[near[np.argsort(-doubted.pairs.similarity[near])]]
    of_other = [int(i) for i in partners if names[i] == finding.identities[1]]
    if of_other and len(finding.changes) == 1:
        assert of_role["other"][0] in of_other


def test_split_and_merged_identities_and_copies(doubted: Run) -> None:
    samples = list(doubted.dataset)
    shutil.copy(samples[12].filepath, samples[16].filepath)
    kinds = [SPLIT, MERGED, DUPLICATE]
    found = find_suspects(doubted, kinds=kinds, min_score=0.0).findings
    names = doubted.items.identities
    for kind in kinds:
        finding = next(one for one in found if one.kind == kind)
        shown = listed(doubted, kind=kind, count=1)["findings"][0]
        assert shown["key"] == finding_key(finding)
        of_role = groups(shown)
        if kind == SPLIT:
            assert {names[i] for i in of_role["own"]} == {finding.identities[0]}
            assert {names[i] for i in of_role["other"]} == {finding.identities[1]}
        elif kind == MERGED:
            assert {*of_role["doubted"]} <= {*finding.changes}
            rest = {*finding.items} - {*finding.changes}
            assert {*of_role["own"]} <= rest
            assert len(of_role["own"]) == min(4, len(rest))
        else:
            assert {*of_role["doubted"]} == {12, 16}
            assert shown["can_settle"] is False
            assert "about pictures" in shown["note"]


def test_an_image_alone_is_beside_its_people_and_the_nearest_others(
    doubted: Run,
) -> None:
    kinds = [UNINFORMATIVE, HUB]
    finding = find_suspects(doubted, kinds=kinds, min_score=0.0).findings[0]
    [item] = finding.items
    shown = listed(doubted, count=1)["findings"][0]
    assert shown["key"] == finding_key(finding)
    of_role, names = groups(shown), doubted.items.identities
    assert of_role["doubted"] == [item]
    assert {names[one] for one in of_role["own"]} == {names[item]}
    assert item not in of_role["own"]
    assert names[item] not in {names[one] for one in of_role["other"]}
    pairs = doubted.pairs
    partners = {*pairs.gallery[pairs.query == item]}
    partners |= {*pairs.query[pairs.gallery == item]}
    assert {*of_role["other"]} <= partners


def test_pictures_are_those_of_the_items(doubted: Run) -> None:
    answer = listed(doubted, count=5)
    wanted = {
        item
        for one in answer["findings"]
        for group in one["groups"]
        for item in group["items"]
    }
    assert {int(key) for key in answer["pictures"]} == wanted
    for key, picture in answer["pictures"].items():
        sample_id = str(doubted.items.sample_ids[int(key)])
        image = Image.open(doubted.dataset[sample_id].filepath).convert("RGB")
        shown = decoded(picture["url"])
        scale = min(144 / image.width, 112 / image.height)
        assert shown.size == (round(image.width * scale), round(image.height * scale))
        small = image.resize(shown.size, Image.Resampling.BICUBIC)
        difference = np.asarray(shown, float) - np.asarray(small, float)
        assert np.abs(difference).mean() < 6
        identity = doubted.items.identities[int(key)]
        assert picture["label"] == f"{identity}, {doubted.items.cameras[int(key)]}"


def test_pictures_of_detections_show_their_box(
    make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    dataset = fill_frames(make_dataset("findings"), tmp_path)
    protocol = type(REID)("label")
    run = explain_retrieval(
        dataset, tiny_model(), k=2, protocol=protocol, patches_field="people"
    )
    find_suspects(run, kinds=[MISLABELED, SPLIT, MERGED], min_score=0.0)
    answer = listed(run, count=5)
    assert answer["pictures"]
    # Boxes are 8 x 16, frames are 48 x 48.
    assert {decoded(one["url"]).size for one in answer["pictures"].values()} == {
        (56, 112)
    }


def test_answers_stay_small(doubted: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    for sample in doubted.dataset:
        noise = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(noise).save(sample.filepath)
    answer = listed(doubted, count=20)
    assert len(json.dumps(answer, ensure_ascii=False).encode()) <= 250_000
    sizes = {decoded(one["url"]).size for one in answer["pictures"].values()}
    # Smaller pictures, all of one size.
    assert sizes == {(108, 81)}
    monkeypatch.setattr(asked, "MOST_BYTES", 20_000)
    answer = listed(doubted, count=3)
    assert len(json.dumps(answer, ensure_ascii=False).encode()) <= 20_000


def test_images_that_are_gone_say_so(doubted: Run) -> None:
    finding = first_of(doubted, MISLABELED)
    item = finding.changes[0]
    sample = doubted.dataset[str(doubted.items.sample_ids[item])]
    Path(sample.filepath).unlink()
    picture = listed(doubted, count=20)["pictures"][str(item)]
    assert picture["url"] == ""
    assert "does not exist" in picture["problem"]
    assert str(Path(sample.filepath).parent) not in picture["problem"]


# --------------------------------------------------------------------------------------
# Verdicts
# --------------------------------------------------------------------------------------


def test_a_proposal_is_accepted_rejected_and_undone(doubted: Run) -> None:
    findings = load_suspects(doubted).findings
    first = findings[0]
    assert first.kind == MISLABELED
    shown = Shown(doubted.dataset, "suspects")
    keys = [finding_key(one) for one in findings[:3]]
    asked_for = of_run(doubted, finding=keys[0], shown=keys)
    answer = shown.ask("accept", **asked_for)
    # The App has to know the new field of verdicts.
    assert [name for name, _ in shown.asked] == ["reload_dataset"]
    reviewed = review_suspects(doubted, load_suspects(doubted))
    assert finding_key(reviewed.accepted[0]) == keys[0]
    assert dict(answer["verdicts"])[keys[0]] == "accepted"
    assert [key for key, _ in answer["verdicts"]] == keys
    assert answer["expected"].startswith("Expected to be left among all labels: ")
    pairs = list(pairs_of_proposal(doubted, first))
    assert answer["previous"] == [{"pair": pair, "verdict": None} for pair in pairs]
    [fix] = find_fixes(doubted).agreed
    assert (fix.sample_id, fix.new) == (first.sample_ids[0], first.identity)
    stored = get_verdicts(doubted)
    assert {*stored} == {*pairs}

    again = shown.ask("reject", **asked_for)
    assert shown.asked == []
    assert dict(again["verdicts"])[keys[0]] == "rejected"
    assert {one.text for one in get_verdicts(doubted).values()} == {"fine"}
    assert find_fixes(doubted).fixes == ()
    assert listed(doubted, count=20)["findings"][-1]["answer"] == "rejected"

    # Back to what was accepted, with the same time, and to nothing.
    undone = shown.ask("restore", **asked_for, entries=again["previous"])
    assert dict(undone["verdicts"])[keys[0]] == "accepted"
    assert get_verdicts(doubted) == stored
    undone = shown.ask("restore", **asked_for, entries=answer["previous"])
    assert dict(undone["verdicts"])[keys[0]] == ""
    assert undone["expected"].startswith("Expected among all labels: ")
    assert get_verdicts(doubted) == {}
    assert not review_suspects(doubted, load_suspects(doubted)).accepted


def test_a_repeated_request_changes_nothing_and_undo_keeps_notes(doubted: Run) -> None:
    finding = first_of(doubted, MISLABELED)
    [pair, *_] = pairs_of_proposal(doubted, finding)
    set_verdict(doubted, pair, "occlusion", "a remark\nof two lines")
    before = get_verdicts(doubted)
    key = finding_key(finding)
    answer = ask(doubted, "accept", finding=key, request_id="second")
    accepted = get_verdicts(doubted)
    assert accepted != before
    # The answer was lost; the request is sent again.
    assert ask(doubted, "accept", finding=key, request_id="second") == answer
    assert get_verdicts(doubted) == accepted
    for _ in range(2):
        ask(doubted, "restore", finding=key, entries=answer["previous"])
        assert get_verdicts(doubted) == before


def test_what_takes_no_verdict_says_why(doubted: Run) -> None:
    found = find_suspects(doubted, kinds=[MERGED], min_score=0.0).findings
    finding = next(one for one in found if not pairs_of_proposal(doubted, one))
    key = finding_key(finding)
    shown = next(
        one for one in listed(doubted, count=20)["findings"] if one["key"] == key
    )
    assert shown["can_settle"] is False
    assert "No stored pair shows this" in shown["note"]
    problem = ask(doubted, "accept", finding=key)["problem"]
    assert problem.startswith("No stored pair of the run 'sfam' shows this finding")
    assert get_verdicts(doubted) == {}


def test_a_picture_opens_the_pairs_of_its_finding(doubted: Run) -> None:
    shown = Shown(doubted.dataset, "suspects")
    for finding in load_suspects(doubted).findings:
        shown.do("on_mark", mark="finding", finding=finding_key(finding))
        assert shown.view[: len(finding.sample_ids)] == list(finding.sample_ids)
        handed = shown.handed
        assert handed is not None
        assert (handed["run"], handed["uid"]) == ("sfam", doubted.config.uid)
        assert handed["title"].startswith(finding.kind)
        if finding.pairs:
            assert handed["pairs"] == list(finding.pairs)
        else:
            pairs = doubted.pairs
            assert {*pairs.query[shown.pairs]} <= {*finding.items}
            assert {*pairs.rank[shown.pairs]} == {1}
            assert handed["title"].endswith(", nearest neighbors")
        # The list is the component's own: nothing else is drawn.
        assert "blocks" in shown.state
    # An image's own pairs come first.
    finding = max(load_suspects(doubted).findings, key=lambda one: len(one.pairs))
    item = int(doubted.pairs.gallery[finding.pairs[-1]])
    shown.do("on_mark", mark="finding", finding=finding_key(finding), item=item)
    has = [
        item in (doubted.pairs.query[pair], doubted.pairs.gallery[pair])
        for pair in shown.pairs
    ]
    assert sorted(shown.pairs) == sorted(finding.pairs)
    assert has == sorted(has, reverse=True)
    assert has[0]


# --------------------------------------------------------------------------------------
# Requests by hand
# --------------------------------------------------------------------------------------


def test_forged_requests_get_one_sentence(doubted: Run) -> None:
    shown = Shown(doubted.dataset)
    findings = load_suspects(doubted).findings
    key, count = finding_key(findings[0]), len(findings)
    entry = {"pair": 0, "verdict": None}
    hostile = "<script>\n**x**" * 400
    [pair, *more] = pairs_of_proposal(doubted, findings[0])
    elsewhere = next(one for one in range(99) if one not in {pair, *more})
    other = {"query_id": "a", "neighbor_id": "b", "text": "fine", "created": "2026"}
    gone = "this finding is gone since the suspects were searched again; choose "
    for question, params, problem in (
        ("findings", {"start": -1}, "start is -1; give a whole number from 0 to "),
        ("findings", {"start": 10**6}, f"there are {count} findings, numbered from 0"),
        ("findings", {"count": 21}, "count is 21; give a whole number from 1 to 20"),
        ("findings", {"count": "2"}, "count is '2'; give a whole number"),
        ("findings", {"kind": hostile}, "there is no finding of the kind '<script>"),
        ("findings", {"kind": ["x"]}, "kind is ['x']; give a text"),
        ("findings", {"min_probability": 2}, "min_probability is 2; give a number"),
        ("findings", {"min_probability": "nan"}, "min_probability is 'nan'; give"),
        ("accept", {"finding": hostile}, gone),
        ("accept", {}, gone),
        ("reject", {"finding": 3}, "finding is 3; give a text"),
        ("reject", {"finding": key, "shown": ["x"] * 51}, "shown is ['x', "),
        ("restore", {"finding": key}, "these are not the verdicts"),
        ("restore", {"finding": key, "entries": [entry] * 1001}, "entries is [{"),
        ("restore", {"finding": key, "entries": "x"}, "entries is 'x'; give"),
        ("restore", {"finding": key, "entries": [{"pair": -1}]}, "pair is -1; give"),
        (
            "restore",
            {"finding": key, "entries": [{"pair": 10**9, "verdict": None}]},
            "the run 'sfam' has ",
        ),
        (
            "restore",
            {"finding": key, "entries": [{"pair": elsewhere, "verdict": None}]},
            "these are not the verdicts",
        ),
        ("accept", {"finding": key, "request_id": "x" * 65}, "request_id is 'xxx"),
        (
            "restore",
            {"finding": key, "entries": [{"pair": pair, "verdict": other}]},
            f"the verdict 'fine' is not on pair {pair} of the run 'sfam'",
        ),
        ("drop", {}, "there is no question 'drop'; ask one of findings, accept, "),
    ):
        answer = shown.ask(question, **of_run(doubted, **params))
        assert {*answer} == {"problem", "stale"}, (question, params)
        assert answer["problem"].startswith(problem[0].upper() + problem[1:]), answer
        assert "\n" not in answer["problem"]
        assert len(answer["problem"]) < 300
        assert answer["stale"] is False
    assert get_verdicts(doubted) == {}


def test_another_run_is_not_taken_for_the_one_that_is_shown(doubted: Run) -> None:
    shown = Shown(doubted.dataset)
    key = finding_key(load_suspects(doubted).findings[0])
    for run, uid in (("sfam", "0" * 32), ("<b>x</b>", doubted.config.uid), ("", "")):
        for question in ("findings", "accept", "reject", "restore"):
            answer = shown.ask(question, run=run, uid=uid, finding=key)
            assert answer["stale"] is True
            assert "was deleted or made again" in answer["problem"]
    delete_run(doubted.dataset, "sfam")
    assert shown.ask("findings", **of_run(doubted))["stale"] is True


def test_suspects_that_were_searched_again(doubted: Run) -> None:
    key = finding_key(first_of(doubted, MISLABELED))
    shown = Shown(doubted.dataset, "suspects")
    doubted.results.delete("suspects")
    gone = "his finding is gone since the suspects were searched again"
    for question in ("findings", "accept", "reject"):
        answer = shown.ask(question, **of_run(doubted, finding=key))
        assert answer["problem"].startswith("T" + gone)
    shown.do("on_mark", mark="finding", finding=key)
    [(name, given)] = shown.asked
    assert (name, given["variant"]) == ("notify", "error")
    assert given["message"].startswith("t" + gone)
    assert get_verdicts(doubted) == {}


def test_two_pages_do_not_disturb_each_other(doubted: Run) -> None:
    findings = load_suspects(doubted).findings
    one, other = (Shown(doubted.dataset, "suspects") for _ in range(2))
    first = one.ask("findings", **of_run(doubted, start=0, count=2))
    second = other.ask("findings", **of_run(doubted, start=2, count=2))
    key = finding_key(findings[0])
    one.ask("accept", **of_run(doubted, finding=key))
    one.do("on_mark", mark="finding", finding=key)
    handed = one.pairs
    other.do("on_mark", mark="finding", finding=finding_key(findings[1]))
    assert other.pairs == list(findings[1].pairs)
    assert handed == list(findings[0].pairs)
    # What is listed depends on what is asked alone.
    assert [f["key"] for f in first["findings"]] == [
        finding_key(f) for f in findings[:2]
    ]
    assert [f["key"] for f in second["findings"]] == [
        finding_key(f) for f in findings[2:4]
    ]
    assert other.ask("findings", **of_run(doubted, count=20)) == one.ask(
        "findings", **of_run(doubted, count=20)
    )


HOSTILE = ("<img src=x onerror=alert(1)>", "عربي ועברית", "long " * 2000, "a\nb **c**")


def test_hostile_names_are_bounded(
    make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    dataset = fill(make_dataset("findings"), tmp_path)
    names = dataset.values("identity")
    place = {name: n for n, name in enumerate(sorted({*names}))}
    renamed = [HOSTILE[place[name] % 4] for name in names]
    renamed[4] = renamed[0]
    dataset.set_values("identity", renamed)
    run = explain_retrieval(dataset, tiny_model(), k=2, protocol=REID)
    find_suspects(run, min_score=0.0)
    answer = listed(run, count=20)
    assert answer["findings"]
    for finding in answer["findings"]:
        assert len(finding["sentence"]) <= 600
        assert len(finding["proposal"]) <= 600
        for group in finding["groups"]:
            assert len(group["title"]) <= 40
            assert "\n" not in group["title"]
    for picture in answer["pictures"].values():
        assert len(picture["label"]) <= 60
        assert "\n" not in picture["label"]
