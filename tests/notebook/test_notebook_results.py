"""What a notebook shows of results: what they hold, and nothing that runs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from bs4 import BeautifulSoup, Tag
from PIL import Image

from fiftyone_sfam import (
    Run,
    compare_runs,
    decide_pairs,
    explain_by_masks,
    explain_pair,
    explain_pairs,
    explain_retrieval,
    explain_template,
    find_leaks,
    load_evaluation,
    load_faithfulness,
    load_ledger,
    load_shortcuts,
    load_suspects,
    show_pairs,
    verify_pairs,
)
from fiftyone_sfam.audit.regions.causal import check_causally
from fiftyone_sfam.audit.suspects.search import find_suspects
from fiftyone_sfam.data.notebook import NotebookResult, PlottedResult
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.notebook.pairs import BOX, MOST_PAIRS, PAIR_BOX, false_matches
from fiftyone_sfam.notebook.part import part_of
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH
from report_support import audit, hostile_names, rename_identities, run_with_errors
from worlds import REID, fill, small_crops, tiny_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = run_with_errors(tmp_path_factory.mktemp("people"))
    audit(run)
    yield run
    run.dataset.delete()


def shown(result: NotebookResult) -> BeautifulSoup:
    """The page of a result; fails if anything in it could run or load something."""
    soup = BeautifulSoup(result._repr_html_(), "html.parser")
    allowed = {"div", "style", "p", "b", "bdi", "br", "code", "ul", "li", "table"}
    allowed |= {"thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"}
    assert {tag.name for tag in soup.find_all()} <= allowed
    for tag in soup.find_all():
        assert not [name for name in tag.attrs if name.startswith("on")]
        assert "href" not in tag.attrs
    assert all(src(tag).startswith("data:image/") for tag in soup.find_all("img"))
    return soup


def src(tag: Tag) -> str:
    return str(tag["src"])


def cards(soup: BeautifulSoup) -> dict[str, str]:
    """The figures of a page by their names."""
    cells = soup.select(".sfam-cards td")
    return {cell.contents[-1]: cell.b.get_text() for cell in cells}


def rows(soup: BeautifulSoup, number: int) -> list[list[str]]:
    """The texts of the rows of one of the tables of a page."""
    table = soup.select(".scroll table")[number]
    return [
        [cell.get_text().replace("\u00a0", " ") for cell in row.select("td")]
        for row in table.select("tbody tr")
    ]


def image_of(tag: Tag) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(src(tag).partition(",")[2])))


# --------------------------------------------------------------------------------------
# Runs
# --------------------------------------------------------------------------------------


def test_a_run_shows_its_summary_and_its_first_false_matches(run: Run) -> None:
    soup = shown(run)
    summary = run.summary()
    assert cards(soup) == {
        "images": str(summary["images"]),
        "queries": str(summary["queries"]),
        "pairs explained": str(summary["pairs"]),
        "rank-1": f"{100 * summary['rank1']:.1f}\u00a0%",
        "false matches at rank 1": str(summary["false match"]),
    }
    figures = soup.select("figure.pair")
    pairs = [
        int(re.match(r"pair (\d+):", one.figcaption.get_text())[1]) for one in figures
    ]
    assert len(pairs) == MOST_PAIRS
    columns = run.pairs
    assert set(columns.outcome[pairs]) == {FALSE_MATCH}
    assert set(columns.rank[pairs]) == {1}
    left_out = np.flatnonzero((columns.outcome == FALSE_MATCH) & (columns.rank == 1))
    ends = {frozenset((columns.query[p], columns.gallery[p])) for p in pairs}
    assert len(ends) == MOST_PAIRS
    least = columns.similarity[pairs].min()
    for pair in left_out.tolist():
        if columns.similarity[pair] > least:
            assert frozenset((columns.query[pair], columns.gallery[pair])) in ends


def test_the_pictures_of_a_run_are_its_images_with_its_maps(run: Run) -> None:
    [pair] = false_matches(run, 1)
    query, _ = shown(show_pairs(run, [pair])).select("img")
    picture = image_of(query).convert("RGB")
    assert picture.size == (80, 160)
    assert PAIR_BOX == (120, 160)
    sample = run.dataset[str(run.items.ids[run.pairs.query[pair]])]
    with Image.open(sample.filepath) as image:
        plain = image.convert("RGB").resize(picture.size, Image.Resampling.BICUBIC)
    change = np.abs(np.asarray(picture, float) - np.asarray(plain, float)).mean(axis=2)
    # Cells of the map of 16 x 8: the picture changes where the map is high.
    cells = change.reshape(16, 10, 8, 10).mean(axis=(1, 3))
    values = run.maps(pair).query.maps[run.config.kinds[0]]
    high, low = values > np.quantile(values, 0.9), values <= 0
    assert cells[high].mean() > 3 * cells[low].mean()


def test_pairs_are_shown_in_the_order_in_which_they_are_named(run: Run) -> None:
    captions = shown(show_pairs(run, [5, 0])).select("figcaption")
    pairs, names = run.pairs, run.items.identities
    assert [caption.get_text() for caption in captions] == [
        f"pair {pair}: \u2068{names[pairs.query[pair]]}\u2069 and "
        f"\u2068{names[pairs.gallery[pair]]}\u2069, {pairs.similarity[pair]:.3f}, "
        f"{['true match', 'false match'][pairs.outcome[pair]]}"
        for pair in (5, 0)
    ]
    assert shown(show_pairs(run, [])).select("figure") == []


def test_pairs_that_do_not_exist_are_refused(run: Run) -> None:
    with pytest.raises(RunError, match=r"numbered from 0; there is no pair -1\."):
        show_pairs(run, [0, -1])


def test_a_run_without_its_images_says_so(tmp_path: Path) -> None:
    run = run_with_errors(tmp_path)
    try:
        for path in run.dataset.values("filepath"):
            Path(path).unlink()
        soup = shown(run)
        assert soup.select("img") == []
        problems = [one.get_text() for one in soup.select(".no-picture")]
        assert len(problems) == 2 * len(soup.select("figure.pair")) > 0
        start = "the file does not exist: "
        assert {one.removeprefix(start).rstrip(".") for one in problems} <= {
            Path(path).name for path in run.dataset.values("filepath")
        }
        assert str(tmp_path) not in str(soup)
    finally:
        run.dataset.delete()


# --------------------------------------------------------------------------------------
# Explanations of pairs
# --------------------------------------------------------------------------------------


def test_an_explained_pair_shows_its_images_and_that_its_numbers_add_up() -> None:
    query = Image.linear_gradient("L").convert("RGB").resize((64, 128))
    gallery = query.rotate(180)
    pair = explain_pair("demo", query, gallery)
    soup = shown(pair)
    assert cards(soup) == {
        "score": f"{pair.score:.4f}",
        "distance": f"{pair.distance:.4f}",
    }
    for row, side in zip(rows(soup, 0), (pair.query, pair.gallery), strict=True):
        total, remainder, score = (float(one.replace("−", "-")) for one in row[1:])
        assert total == pytest.approx(side.evidence.sum(), abs=6e-5)
        assert total + remainder == pytest.approx(score, abs=2e-4)
        assert score == pytest.approx(pair.score, abs=6e-5)
    assert [image_of(tag).size for tag in soup.select("img")] == [(120, 240)] * 2
    assert BOX == (180, 240)
    captions = [one.get_text() for one in soup.select("figcaption")]
    assert captions == ["query", "gallery"]


def test_red_is_evidence_for_the_pair_and_blue_against_it() -> None:
    gray = Image.new("RGB", (64, 128), (128, 128, 128))
    noise = np.random.default_rng(0).integers(0, 255, (128, 64, 3), dtype=np.uint8)
    noise[64:] = 128
    pair = explain_pair("demo", Image.fromarray(noise), gray)
    evidence = pair.query.evidence
    assert evidence.min() < 0 < evidence.max()
    picture = image_of(shown(pair).select("img")[0]).convert("RGB").resize((8, 16))
    pixels = np.asarray(picture, dtype=float)
    redness = (pixels[..., 0] - pixels[..., 2])[evidence.shape[0] // 2 :]
    shown_part = evidence[evidence.shape[0] // 2 :]
    # On the gray half, colors are only the map's.
    assert np.corrcoef(redness.ravel(), shown_part.ravel())[0, 1] > 0.9


def test_a_pair_from_a_run_shows_the_same_as_from_the_model(tmp_path: Path) -> None:
    dataset = small_crops(tmp_path)
    try:
        run = explain_retrieval(
            dataset, "demo", k=2, protocol=REID, contributions="float16"
        )
        first, other = dataset[str(run.items.ids[0])], dataset[str(run.items.ids[7])]
        stored = shown(run.explain_stored(first.id, other.id))
        computed = shown(explain_pair("demo", first, other))
        assert cards(stored)["score"] == cards(computed)["score"]
        for one, same in zip(stored.select("img"), computed.select("img"), strict=True):
            pixels, expected = (
                np.asarray(image_of(tag).convert("RGB"), float) for tag in (one, same)
            )
            assert np.abs(pixels - expected).mean() < 2
        numbers = [float(cell.replace("−", "-")) for cell in rows(stored, 0)[0][1:]]
        assert sum(numbers[:3]) == pytest.approx(numbers[3], abs=2e-4)
        pair = run.explain_stored(first.id, other.id)
        dataset.delete_samples(first)
        [problem] = shown(pair).select(".no-picture")
        assert problem.get_text() == "the sample was deleted."
    finally:
        dataset.delete()


def test_images_that_are_gone_are_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.png"
    Image.linear_gradient("L").convert("RGB").save(path)
    pair = explain_pair("demo", path, Image.new("RGB", (64, 128)))
    path.unlink()
    [problem] = shown(pair).select(".no-picture")
    assert problem.get_text() == "the file does not exist: gone.png."
    assert len(shown(pair).select("img")) == 1


def test_templates_and_masks_show_all_their_images() -> None:
    colors = ("red", "orange", "blue", "green")
    images = [Image.new("RGB", (64, 128), color) for color in colors]
    template = explain_template("demo", images[0], images[1:])
    captions = [one.get_text() for one in shown(template).select("figcaption")]
    assert captions == [
        f"probe 0: {template.score:.4f} of the score",
        *(
            f"member {place}: {side.score:.4f} of the score"
            for place, side in enumerate(template.members)
        ),
    ]
    assert len(shown(template).select("img")) == 4
    masks = explain_by_masks("demo", *images[:2], masks=20)
    soup = shown(masks)
    assert len(soup.select("img")) == 2
    assert "20 random masks" in soup.get_text()


# --------------------------------------------------------------------------------------
# Audits
# --------------------------------------------------------------------------------------


def test_an_evaluation_shows_its_figures(run: Run) -> None:
    result = load_evaluation(run)
    soup = shown(result)
    ranked = result.identification
    assert cards(soup)["rank-1"] == f"{100 * ranked.cmc(1)[0]:.1f}\u00a0%"
    assert [row[0] for row in rows(soup, 0)][:3] == ["rank-1", "rank-5", "rank-10"]
    assert [row[0] for row in rows(soup, 2)] == sorted(run.dataset.distinct("camera"))
    plots = result.plots()
    assert list(plots) == ["cmc", "scores", "roc"]
    assert all(isinstance(one, go.Figure) for one in plots.values())
    assert list(plots["cmc"].data[0].y) == ranked.cmc(20).tolist()
    assert plots["roc"].layout.title.text.startswith("True accept rate")


def test_other_audits_show_what_they_hold(run: Run) -> None:
    suspects = load_suspects(run)
    soup = shown(suspects)
    findings = rows(soup, 0)
    assert [row[2] for row in findings] == [
        one.sentence for one in suspects.findings[:10]
    ]
    checked = load_faithfulness(run)
    assert checked.sentences[0] in shown(checked).get_text().replace("\u00a0", " ")
    assert [row[0] for row in rows(shown(checked), 0)] == [
        figures.name for figures in checked.figures
    ]
    assert list(checked.plots()) == ["deletion", "insertion"]
    ledger = load_ledger(run)
    assert [row[:2] for row in rows(shown(ledger), 0)] == [
        [cell.groups[0][1], cell.region]
        for cell in ledger.cells
        if len(cell.groups) == 1
    ]
    assert len(ledger.plots()["regions"].data) == 4
    shortcuts = load_shortcuts(run)
    assert f"{len(shortcuts)} found" in shown(shortcuts).get_text()
    check = check_causally(run, "demo", limit=4, ledger=ledger)
    assert rows(shown(check), 0)[2] == ["pairs", "4"]
    assert list(check.plots()["claim"].data[0].x) == check.claim.round(5).tolist()
    decisions = decide_pairs(run, threshold=0.9)
    accepted = rows(shown(decisions), 0)[0]
    assert accepted[:2] == ["true accept", str(decisions.nearest["true accept"])]


def test_comparisons_verifications_and_leaks_show_what_they_hold(run: Run) -> None:
    dataset = run.dataset
    other = explain_retrieval(dataset, "demo", k=4, key="other", protocol=REID)
    compared = compare_runs(run, other, resamples=20)
    soup = shown(compared)
    assert rows(soup, 0)[0][0] == "rank-1"
    assert rows(soup, 0)[0][1] == rows(soup, 0)[0][2]
    assert next(iter(compared.plots())) == "ranks"
    ids = dataset.values("id")
    listed = [(ids[0], ids[1], "same"), (ids[0], ids[7], "different")]
    given = explain_pairs(dataset, "demo", listed, key="given")
    page = shown(given)
    assert cards(page)["false match"] == "1"
    # Without identities, a pair is named by its similarity alone.
    assert [one.get_text() for one in page.select("figcaption")] == [
        f"pair 1: {given.pairs.similarity[1]:.3f}, false match"
    ]
    verification = verify_pairs(given)
    assert cards(shown(verification))["AUC"] == f"{verification.scores.auc:.4f}"
    assert list(verification.plots()) == ["scores", "roc"]
    leaks = find_leaks(dataset[:12], dataset[12:])
    assert leaks.summary() in shown(leaks).get_text()


# --------------------------------------------------------------------------------------
# Hostile labels
# --------------------------------------------------------------------------------------


def test_hostile_labels_stay_text(tmp_path: Path, dataset) -> None:
    names = hostile_names()
    fill(dataset, tmp_path, identities=len(names), shots=6)
    rename_identities(dataset, names)
    labels = dataset.values("identity")
    # Each identity has images of another one's label.
    labels[::6], labels[7::6] = [*labels[6::6], labels[0]], labels[1:31:6]
    dataset.set_values("identity", labels)
    dataset.set_values("camera", [f"{names[0]}{n % 3}" for n in range(len(labels))])
    run = explain_retrieval(dataset, tiny_model(), k=5, protocol=REID)
    audit_pages = [run, find_suspects(run), show_pairs(run, range(4))]
    pages = [shown(result) for result in audit_pages]
    assert "<script>alert(1)" in pages[0].get_text() + pages[2].get_text()
    for soup in pages:
        # Right-to-left overrides are replaced, and long names shortened.
        assert "\u202e" not in soup.get_text()
        assert "x" * 700 not in soup.get_text()
        assert "49" not in [one.get_text() for one in soup.select("figcaption")]


def test_every_result_has_a_page() -> None:
    with pytest.raises(TypeError, match="PlottedResult has no page for notebooks"):
        PlottedResult()._repr_html_()
    kinds = {*NotebookResult.__subclasses__(), *PlottedResult.__subclasses__()}
    assert len(kinds) > 12
    for kind in kinds - {PlottedResult}:
        assert part_of.dispatch(kind) is not part_of.dispatch(object), kind
