"""The first page of the audit panel: cards, ranks, evidence, slices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fiftyone_sfam.app.audit import blocks, choices, page_given
from fiftyone_sfam.app.audit.blocks import Block, Card
from fiftyone_sfam.app.audit.choices import Choices, Mark, Opened, Params
from fiftyone_sfam.app.audit.results import needed, stored
from fiftyone_sfam.audit.evaluation.display import (
    cmc_figure,
    evidence_figure,
    headline,
    slices_table,
)
from fiftyone_sfam.audit.evaluation.evaluate import Evaluation, load_evaluation
from fiftyone_sfam.audit.evaluation.overview import (
    LARGE_PAIRS,
    Overview,
    compared_pairs,
    overview,
    stored_overview,
)
from fiftyone_sfam.data.text import (
    NOT_KNOWN,
    counted,
    escape_markdown,
    percent,
    quoted,
    short,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, TRUE_MATCH, WITHOUT_MATCH
from fiftyone_sfam.review.verdicts import get_verdicts, reviewed
from fiftyone_sfam.runs.run import Run

NO_IDENTITIES = (
    "Without identities there are no true and false matches to tell apart: make a run "
    "with an identity field."
)
MOST_WORST = 100
"""Queries that are opened as the worst ones."""

MOST_SLICES = 100
"""Slices of a field that are listed."""


def page(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of the page."""
    figures = figures_of(run)
    given = run.given is not None
    measures = page_given.cards(run) if given else _measures(run, figures)
    shown = [
        *blocks.warnings(run.warnings),
        blocks.cards("cards", [*measures, *_counts(run)]),
        *_maps(run),
    ]
    report = {"write_report": "Write report"}
    if given:
        shown += page_given.tables(run)
        if page_given.verification_of(run) is not None:
            report = {"verify_pairs": "Verify at a threshold", **report}
        return [*shown, blocks.operators("operators", **report)]
    if figures is None:
        return [*shown, *offer_evaluation(run)]
    if not len(figures.identification.query):
        return [*shown, blocks.text("no_labels", _nothing_to_measure(run))]
    shown.append(
        blocks.plot(
            "cmc",
            "Rank of the nearest true match (CMC)",
            "Click a point: the queries whose nearest true match has this rank.",
            cmc_figure(figures.identification),
        )
    )
    if figures.evidence is not None:
        titles = ("true matches", "false matches")
        shown.append(
            blocks.plot(
                "evidence",
                "Where the similarity comes from, on average",
                "Evidence on the query for its first neighbor. Click a map: its pairs.",
                evidence_figure(list(figures.evidence), titles),
            )
        )
    evaluation = stored(run, load_evaluation)
    if evaluation is not None and evaluation.slices:
        shown += _slices(evaluation, chosen)
    again = "Evaluate again" if evaluation else "Evaluate with slices and intervals"
    return [*shown, blocks.operators("operators", evaluate_retrieval=again, **report)]


def _maps(run: Run) -> list[Block]:
    """Say how faithful the maps are, unless the warnings do."""
    check = run.map_check
    if check is None or check.is_caution:
        return []
    return [blocks.text("maps", escape_markdown(check.sentence))]


def _nothing_to_measure(run: Run) -> str:
    """Say why no query has a true match to find."""
    without = run.counts[WITHOUT_MATCH]
    if not without:
        return NO_IDENTITIES
    queries = counted(without, "labeled query has", "labeled queries have")
    return f"{queries} no true match to find, so there is nothing to measure."


def figures_of(run: Run) -> Overview | None:
    """Return the figures of a run, if they are stored or quickly computed."""
    if run.given is not None:
        return page_given.figures_of(run)
    stored_figures = stored_overview(run)
    if stored_figures is None and compared_pairs(run) < LARGE_PAIRS:
        stored_figures = overview(run)
    return stored_figures


def known_figures(run: Run) -> Overview:
    """Return the figures of a run that a mark was drawn from."""
    figures = figures_of(run)
    if figures is None:
        raise DataError(
            f"the figures of the run '{run.key}' are gone; evaluate it again."
        )
    return figures


def offer_evaluation(run: Run) -> list[Block]:
    """Return the blocks that replace figures that take long to compute."""
    return [
        blocks.text(
            "unevaluated",
            "The other figures compare "
            f"{counted(compared_pairs(run), 'pair')} of images. "
            "Compute them once; they are stored with the run.",
        ),
        blocks.operators("evaluate", evaluate_retrieval="Evaluate retrieval"),
    ]


# --------------------------------------------------------------------------------------
# Cards
# --------------------------------------------------------------------------------------


def _measures(run: Run, figures: Overview | None) -> list[Card]:
    """Return the cards of the measures, and of the false matches."""
    wrong = run.counts["false match"]
    hint = "Queries whose nearest neighbor is another identity."
    last = Card(f"{wrong:,}", "False matches", hint, "false_matches" if wrong else "")
    if figures is None:
        hint = (
            "Queries whose nearest neighbor is a true match, of those that have one to "
            "find. The other figures need an evaluation."
        )
        rate = run.summary()["rank1"]
        return [Card(percent(rate), "Rank-1", hint, "true_matches"), last]
    shown = headline(figures.identification, figures.equal_error)
    names = ("Rank-1", "Rank-5", "mAP", "mINP", "Equal error")
    if not len(figures.identification.query):
        hint = _nothing_to_measure(run)
        return [*(Card(NOT_KNOWN, name, hint) for name in names), last]
    of_those = "of those that have one to find. Opens the others."
    hints = (
        f"Queries whose nearest neighbor is a true match, {of_those}",
        f"Queries with a true match among the five nearest, {of_those}",
        f"Mean average precision. Opens the {MOST_WORST} worst queries.",
        "Mean inverse negative penalty: how far down the last true match is. Opens the "
        f"{MOST_WORST} worst queries.",
        "Error rate at the threshold where both error rates meet. Opens the stored "
        "false matches that it accepts.",
    )
    marks = ("missed_1", "missed_5", "worst", "last", "equal_error")
    values = [value.text for value in shown.values()]
    return [*map(Card, values, names, hints, marks), last]


def _counts(run: Run) -> list[Card]:
    """Return the cards of every run."""
    counts, done = run.config.counts, reviewed(run)
    shown = [
        Card(
            f"{done.pairs:,}",
            f"Reviewed of {done.total_pairs:,}",
            f"Pairs with a verdict, of {done.queries:,} of the "
            f"{counted(done.total_queries, 'query', 'queries')}.",
            "reviewed" if done.pairs else "",
        ),
        Card(
            f"{counts['queries']:,}",
            "Queries",
            "Images with neighbors to look at. Opens their first neighbors.",
            "queries",
        ),
    ]
    if counts["skipped"]:
        hint = "Images that could not be used."
        shown.append(Card(f"{counts['skipped']:,}", "Skipped", hint, "skipped"))
    if counts.get("rows skipped"):
        title = f"Rows skipped of {counts['rows']:,}"
        hint = "Rows of the list whose images are missing or could not be used."
        shown.append(Card(f"{counts['rows skipped']:,}", title, hint))
    return shown


def _slices(evaluation: Evaluation, chosen: Choices) -> list[Block]:
    """Return the choice of a field and the table of its slices."""
    name = choices.one_of(chosen.slices, evaluation.slices)
    table = slices_table(evaluation.slices[name]).first(MOST_SLICES)
    hint = "Figures with 95 % intervals. Click a row: its queries."
    if table.left_out:
        hint += f" The {MOST_SLICES} largest of {len(evaluation.slices[name]):,}."
    shown = [blocks.table("slice_rows", f"Slices by {short(name)}", hint, table)]
    if len(evaluation.slices) > 1:
        shown.insert(0, blocks.choice("slices", "Sliced by", evaluation.slices, name))
    return shown


# --------------------------------------------------------------------------------------
# Clicks
# --------------------------------------------------------------------------------------


def _on_point(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open the queries whose nearest true match has a rank, with that match."""
    ranked, rank = known_figures(run).identification, choices.place_of(params) + 1
    queries = ranked.query[ranked.first_match == rank]
    wanted = np.isin(run.pairs.query, queries) & (run.pairs.outcome == TRUE_MATCH)
    pairs = np.flatnonzero(wanted & (run.pairs.rank == rank))
    return Opened(choices.to_pairs(run, f"nearest true match at rank {rank}", pairs))


def _missed(rank: int) -> Mark:
    """Open the queries without a true match up to a rank, with what came first."""

    def mark(run: Run, params: Params, chosen: Choices) -> Opened:
        ranked = known_figures(run).identification
        queries = ranked.query[ranked.first_match > rank]
        title = f"no true match up to rank {rank}"
        return Opened(choices.to_queries(run, title, queries))

    return mark


def _worst(measure: str) -> Mark:
    """Open the queries of the lowest values of a measure, the worst first."""

    def mark(run: Run, params: Params, chosen: Choices) -> Opened:
        ranked = known_figures(run).identification
        order = np.argsort(getattr(ranked, measure), kind="stable")[:MOST_WORST]
        queries = counted(len(order), "query", "queries")
        title = f"the {queries} of the lowest {measure.replace('_', ' ')}"
        return Opened(choices.to_queries(run, title, ranked.query[order]))

    return mark


def _outcome(outcome: int) -> Mark:
    return lambda run, params, chosen: Opened(choices.to_outcome(run, outcome))


def _on_map(run: Run, params: Params, chosen: Choices) -> Opened:
    outcome = (TRUE_MATCH, FALSE_MATCH)[int(params["trace_idx"])]
    return Opened(choices.to_outcome(run, outcome))


def _on_slice(run: Run, params: Params, chosen: Choices) -> Opened:
    slices = needed(run, load_evaluation).slices
    name = choices.one_of(chosen.slices, slices)
    row = slices[name][choices.place_of(params)]
    title = f"{short(name)} {quoted(row.value)}"
    return Opened(choices.to_queries(run, title, row.items))


def _on_queries(run: Run, params: Params, chosen: Choices) -> Opened:
    pairs = np.flatnonzero(run.pairs.rank == 1)
    return Opened(choices.to_pairs(run, "first neighbors", pairs))


def _on_reviewed(run: Run, params: Params, chosen: Choices) -> Opened:
    pairs = np.array(list(get_verdicts(run)), dtype=np.int64)
    return Opened(choices.to_pairs(run, "pairs with a verdict", pairs))


def _on_skipped(run: Run, params: Params, chosen: Choices) -> Opened:
    skipped = (str(run.items.sample_ids[image.index]) for image in run.skipped)
    samples = tuple(dict.fromkeys(skipped))
    return Opened(choices.Selection("images that were skipped", (), samples))


MARKS: Mapping[str, Mark] = {
    "cmc": _on_point,
    "evidence": _on_map,
    "slice_rows": _on_slice,
    "missed_1": _missed(1),
    "missed_5": _missed(5),
    "worst": _worst("average_precision"),
    "last": _worst("inverse_negative_penalty"),
    "true_matches": _outcome(TRUE_MATCH),
    "false_matches": _outcome(FALSE_MATCH),
    "queries": _on_queries,
    "reviewed": _on_reviewed,
    "skipped": _on_skipped,
}
"""Effects of clicks, by the name of the block or the card."""
