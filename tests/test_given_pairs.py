"""LFW's protocol on real faces, from a file of pairs to panel, report and commands."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from cli.cli_support import Output, printed, refused, rows
from fiftyone_sfam import (
    EmbeddingModel,
    Run,
    evaluate_retrieval,
    explain_pairs,
    get_verdicts,
    load_run,
    load_verification,
    verify_pairs,
    write_report,
)
from fiftyone_sfam.app.audit.choices import Choices
from fiftyone_sfam.app.audit.panel import TABS, open_mark, page_of
from fiftyone_sfam.errors import DataError, RunError
from pairs_component import PairsComponent, names
from report_support import Page

FOLDS, EACH = 10, 30


@pytest.fixture(scope="module")
def faces(assets_dir: Path) -> tuple[EmbeddingModel, list[Path]]:
    """MobileFaceNet, and five aligned chips of each of 40 identities."""
    path = assets_dir / "reference_models.py"
    spec = importlib.util.spec_from_file_location("reference_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("reference_models", module)
    spec.loader.exec_module(module)
    network = module.load_reference_model("mobilefacenet", assets_dir)
    folder = module.REFERENCE_MODELS["mobilefacenet"].data_folder
    model = EmbeddingModel(
        network, network.preprocess, metric=network.metric, name="mobilefacenet"
    )
    people = sorted((assets_dir / "data" / folder).iterdir())
    return model, [path for one in people for path in sorted(one.glob("*.jpg"))[:5]]


@pytest.fixture(scope="module")
def lines(faces: tuple[EmbeddingModel, list[Path]]) -> list[list[str]]:
    """Ten folds of 30 + 30 pairs, each of four identities that no other fold has."""
    generator = np.random.default_rng(0)
    people: dict[str, list[str]] = {}
    for path in faces[1]:
        name, number = path.stem.rsplit("_", 1)
        people.setdefault(name, []).append(str(int(number)))
    listed = [[str(FOLDS), str(EACH)]]
    for fold in range(FOLDS):
        own = sorted(people)[4 * fold : 4 * fold + 4]
        same = [[name, *pair] for name in own for pair in combinations(people[name], 2)]
        different = [
            [first, one, second, other]
            for first, second in combinations(own, 2)
            for one, other in product(people[first], people[second])
        ]
        for kind in (same, different):
            chosen = generator.choice(len(kind), EACH, replace=False)
            listed += [kind[at] for at in chosen]
    return listed


@pytest.fixture(scope="module")
def run(
    faces: tuple[EmbeddingModel, list[Path]],
    lines: list[list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Run]:
    file = tmp_path_factory.mktemp("lfw") / "pairs.txt"
    file.write_text("\n".join("\t".join(line) for line in lines) + "\n", "utf-8")
    dataset = fo.Dataset()
    dataset.add_samples(
        [fo.Sample(filepath=str(p), person=p.parent.name) for p in faces[1]]
    )
    yield explain_pairs(dataset, faces[0], file, identity_field="person")
    dataset.delete()


@pytest.fixture(scope="module")
def cosines(
    faces: tuple[EmbeddingModel, list[Path]], lines: list[list[str]]
) -> np.ndarray:
    """The similarities of the list's pairs, by the network alone."""
    model, paths = faces
    images = []
    for path in paths:
        with Image.open(path) as opened:
            images.append(model.preprocess(opened.convert("RGB")))
    with torch.no_grad():
        parts = [model.network(part) for part in torch.stack(images).split(32)]
    vectors = torch.nn.functional.normalize(torch.cat(parts).double()).numpy()
    place = {path.stem: row for row, path in enumerate(paths)}
    values = []
    for line in lines[1:]:
        name, first, *other, second = line
        stems = f"{name}_{int(first):04d}", f"{(other or [name])[0]}_{int(second):04d}"
        one, two = (vectors[place[stem]] for stem in stems)
        values.append(one @ two)
    return np.array(values)


def test_accuracy_by_folds_equals_an_independent_computation(
    run: Run, cosines: np.ndarray
) -> None:
    verification = verify_pairs(run, threshold=0.3, fars=(0.1, 0.01))
    genuine = np.tile(np.repeat([True, False], EACH), FOLDS)
    fold = np.repeat(np.arange(FOLDS), 2 * EACH)
    accuracies = []
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        ordered = np.sort(cosines[train])
        cuts = (ordered[:-1] + ordered[1:]) / 2
        right = [np.sum((cosines[train] >= cut) == genuine[train]) for cut in cuts]
        best = np.flatnonzero(right == np.max(right))
        cut = cuts[best[len(best) // 2]]
        accuracies.append(np.mean((cosines[test] >= cut) == genuine[test]))
        found = verification.folds[number]
        assert (found.fold, found.pairs) == (number, 2 * EACH)
        assert found.threshold == pytest.approx(cut, abs=1e-5)
        assert found.accuracy == accuracies[-1]
    assert verification.accuracy == pytest.approx(np.mean(accuracies))
    error = np.std(accuracies, ddof=1) / np.sqrt(FOLDS)
    assert verification.accuracy_error == pytest.approx(error)
    # An aligned face network on easy faces, and far from chance.
    assert 0.9 < verification.accuracy < 1
    assert verification.scores.auc == pytest.approx(roc_auc_score(genuine, cosines))
    assert verification.decided is not None
    accepted = cosines >= 0.3
    assert verification.decided.accuracy == np.mean(accepted == genuine)
    assert verification.decided.tar == accepted[genuine].mean()
    assert verification.decided.far == accepted[~genuine].mean()
    for point, allowed in zip(verification.scores.operating, (30, 3), strict=True):
        accepted = cosines > np.sort(cosines[~genuine])[::-1][allowed]
        assert accepted[~genuine].sum() == allowed
        assert point.tar == accepted[genuine].mean()
        assert point.supported == (allowed == 30)
    assert load_verification(load_run(run.dataset, run.key)) is not None


def test_the_run_holds_the_list(run: Run, cosines: np.ndarray) -> None:
    given = run.given
    assert given is not None
    assert given.reasons == {}
    np.testing.assert_allclose(
        run.pairs.similarity[given.pair], cosines, rtol=0, atol=1e-6
    )
    same = np.tile(np.repeat(["true match", "false match"], EACH), FOLDS)
    counts = {name: int(np.sum(same == name)) for name in ("true match", "false match")}
    summary = run.summary()
    assert {name: summary[name] for name in counts} == counts
    assert (summary["rows"], summary["rows skipped"]) == (600, 0)
    # Identities and the list's own labels agree here.
    by_field = [
        run.items.identities[q] == run.items.identities[g]
        for q, g in zip(run.pairs.query, run.pairs.gallery, strict=True)
    ]
    assert (run.pairs.outcome == 0).tolist() == by_field
    with pytest.raises(RunError, match="were given as a list, so there is no ranked"):
        evaluate_retrieval(run)


def test_the_panel_of_pairs_answers(run: Run) -> None:
    component = PairsComponent(run.dataset)
    opened = component.opened
    assert opened["ranks"] == [{"name": "1", "label": "all pairs of the list"}]
    labels = [(one["name"], one["label"]) for one in opened["outcomes"]]
    assert labels[0] == ("true match", "same identity")
    assert labels[1] == ("false match", "different identities")
    assert component.queue()[0] == list(range(len(run.pairs)))
    worst, _ = component.queue(outcome="false match", order="false matches")
    first = worst[0]
    wrong = run.pairs.outcome == 1
    assert run.pairs.similarity[first] == run.pairs.similarity[wrong].max()
    answer = component.ask("query", pair=first)
    shown = {one["pair"]: one for one in answer["neighbors"]}
    same_query = np.flatnonzero(run.pairs.query == run.pairs.query[first])
    assert set(shown) == set(same_query.tolist())
    assert shown[first]["list_score"] is None
    assert names(answer["kinds"])
    component.ask("verdict", pairs=[first], verdict="fine")
    assert [given.text for given in get_verdicts(run).values()] == ["fine"]


@pytest.mark.parametrize("page", TABS)
def test_the_pages_of_the_audit(run: Run, page: str) -> None:
    blocks = {block.name: block for block in page_of(run, Choices(page=page))}
    if page == "overview":
        cards = {
            card["label"]: card["value"] for card in blocks["cards"].settings["cards"]
        }
        verification = load_verification(run) or verify_pairs(run)
        assert cards["Accuracy"] == f"{100 * verification.accuracy:.2f} %"
        assert (cards["One identity"], cards["Two identities"]) == ("300", "300")
        assert {"Rank-1", "mAP", "False matches"} & set(cards) == set()
        opened = open_mark(run, "folds", {"row": 2}, Choices())
        assert opened.selection is not None
        assert run.given is not None
        inside = set(run.given.pair[120:180].tolist())
        assert set(opened.selection.pairs) == inside
    if page == "scores":
        assert {"scores", "roc", "points"} <= set(blocks)
    if page == "matches":
        opened = open_mark(run, "equal_error", {}, Choices())
        assert opened.selection is not None
        accepted = run.pairs.similarity[list(opened.selection.pairs)]
        verification = load_verification(run) or verify_pairs(run)
        assert accepted.min() >= verification.scores.equal_error_threshold
        assert {"listed", "identities"} <= set(blocks)


def test_the_report(run: Run, tmp_path: Path) -> None:
    verification = verify_pairs(run)
    page = Page(write_report(run, tmp_path / "report").page)
    cards = page.cards()
    assert cards["accuracy by folds"].value == verification.accuracy
    assert cards["pairs of one identity"].value == 300
    assert "rank-1" not in cards
    assert "false matches at rank 1" not in cards
    assert (
        page.section("retrieval").h2.get_text() == "How well the pairs are told apart"
    )
    measures = {row["measure"].text: row["value"] for row in page.table("measures")}
    assert measures["AUC"].value == verification.scores.auc
    mean, error = 100 * verification.accuracy, 100 * verification.accuracy_error
    shown = f"{mean:.2f} % ± {error:.2f} %".replace(" %", "\u00a0%")
    assert measures["accuracy, mean of 10 folds"].text == shown
    [folds] = page.section("retrieval").select("details")
    assert len(folds.select("tbody tr")) == FOLDS
    settings = {row["setting"].text: row["value"].text for row in page.table("config")}
    assert settings["pairs from"] == "a given list"


def test_the_commands(
    run: Run, lines: list[list[str]], tmp_path: Path, capsys: Output
) -> None:
    name = run.dataset.name
    text = printed(capsys, "verify", name, "--threshold", "0.3", "--far", "0.1")
    verification = load_verification(run)
    assert verification is not None
    measures = dict(rows(text, "measure"))
    assert measures["AUC"] == f"{verification.scores.auc:.4f}"
    assert len(rows(text, "fold")) == FOLDS
    assert "list's own scores" not in text
    assert "no scores of its own" in refused(capsys, "verify", name, "--scores", "list")
    # A short list as a table, with a file that is missing.
    table = tmp_path / "short.csv"
    query, *numbers = lines[1]
    table.write_text(
        "a,b,truth\n"
        f"{query}_{int(numbers[0]):04d},{query}_{int(numbers[1]):04d},same\n"
        f"{query}_{int(numbers[0]):04d},Nobody_0001,different\n",
        "utf-8",
    )
    text = printed(
        capsys,
        *("explain-pairs", name, "--model", "demo", "--key", "short"),
        *("--pairs", str(table), "--column", "query=a", "--column", "gallery=b"),
        *("--column", "label=truth"),
    )
    assert "skipped row 1: 'Nobody_0001' is not in the view." in text
    assert len(load_run(run.dataset, "short").pairs) == 1
    with pytest.raises(
        DataError, match="has no explained pair of different identities"
    ):
        verify_pairs(load_run(run.dataset, "short"))
