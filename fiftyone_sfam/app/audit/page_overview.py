"""The first page of the audit panel: cards, ranks, evidence, slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fiftyone_sfam.app.audit import page_given
from fiftyone_sfam.app.audit.blocks import (
    Block,
    Card,
    buttons_block,
    cards_block,
    choice_block,
    operator_block,
    plot_block,
    result_block,
    text_block,
)
from fiftyone_sfam.app.audit.choices import (
    EVALUATE,
    WRITE_REPORT,
    Choices,
    Mark,
    Opened,
    Params,
    Selection,
    one_of,
    place_of,
    to_outcome,
    to_pairs,
    to_queries,
    to_samples,
)
from fiftyone_sfam.app.audit.results import stored
from fiftyone_sfam.audit.evaluation.display import (
    cmc_figure,
    evidence_figure,
    headline,
    slices_table,
)
from fiftyone_sfam.audit.evaluation.evaluate import Evaluation, load_evaluation
from fiftyone_sfam.audit.evaluation.measures import Identification
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
from fiftyone_sfam.review.verdicts import Reviewed, get_verdicts, reviewed
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
    if run.given is not None:
        return page_given.page(run, reviewed(run))
    figures = figures_of(run)
    blocks = [
        text_block(f"warning_{number}", f"**{escape_markdown(text)}**")
        for number, text in enumerate(run.warnings)
    ]
    blocks.append(cards_block("cards", cards(run, figures, reviewed(run))))
    if figures is None:
        return [*blocks, *offer_evaluation(run)]
    if not len(figures.identification.query):
        return [*blocks, text_block("no_labels", nothing_to_measure(run))]
    blocks.append(
        plot_block(
            "cmc",
            "Rank of the nearest true match (CMC)",
            "Click a point: the queries whose nearest true match has this rank.",
            cmc_figure(figures.identification),
        )
    )
    if figures.evidence is not None:
        blocks.append(
            plot_block(
                "evidence",
                "Where the similarity comes from, on average",
                "Evidence on the query for its first neighbor. Click a map: its pairs.",
                evidence_figure(
                    list(figures.evidence), ("true matches", "false matches")
                ),
            )
        )
    evaluation = stored(run, load_evaluation)
    if evaluation is not None and evaluation.slices:
        blocks += slice_blocks(evaluation, chosen)
    again = "Evaluate again" if evaluation else "Evaluate with slices and intervals"
    blocks.append(
        buttons_block(
            "operators",
            [
                (again, "on_operator", {"operator": EVALUATE}),
                ("Write report", "on_operator", {"operator": WRITE_REPORT}),
            ],
        )
    )
    return blocks


def nothing_to_measure(run: Run) -> str:
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
        text_block(
            "unevaluated",
            "The other figures compare "
            f"{counted(compared_pairs(run), 'pair')} of images. "
            "Compute them once; they are stored with the run.",
        ),
        operator_block("evaluate", "Evaluate retrieval", EVALUATE),
    ]


# --------------------------------------------------------------------------------------
# Cards
# --------------------------------------------------------------------------------------


def cards(run: Run, figures: Overview | None, done: Reviewed) -> list[Card]:
    """Return the cards."""
    counts = run.counts
    shown = [*_measures(run, figures)]
    wrong = counts["false match"]
    shown += [
        Card(
            f"{wrong:,}",
            "False matches",
            "Queries whose nearest neighbor is another identity.",
            "false_matches" if wrong else "",
        ),
        *page_given.common_cards(run, done),
    ]
    return shown


def _measures(run: Run, figures: Overview | None) -> list[Card]:
    """Return the cards of the measures."""
    if figures is None:
        hint = (
            "Queries whose nearest neighbor is a true match, of those that have one to "
            "find. The other figures need an evaluation."
        )
        rate = run.summary()["rank1"]
        return [Card(percent(rate), "Rank-1", hint, "true_matches")]
    shown = headline(figures.identification, figures.equal_error)
    names = ("Rank-1", "Rank-5", "mAP", "mINP", "Equal error")
    if not len(figures.identification.query):
        return [Card(NOT_KNOWN, name, nothing_to_measure(run)) for name in names]
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
    return [
        Card(value.text, name, hint, mark)
        for value, name, hint, mark in zip(
            shown.values(), names, hints, marks, strict=True
        )
    ]


# --------------------------------------------------------------------------------------
# Slices
# --------------------------------------------------------------------------------------


def slice_blocks(evaluation: Evaluation, chosen: Choices) -> list[Block]:
    """Return the choice of a field and the table of its slices."""
    name = one_of(chosen.slices, evaluation.slices)
    table = slices_table(evaluation.slices[name]).first(MOST_SLICES)
    hint = "Figures with 95 % intervals. Click a row: its queries."
    if table.left_out:
        hint += f" The {MOST_SLICES} largest of {len(evaluation.slices[name]):,}."
    shown = [result_block("slice_rows", f"Slices by {short(name)}", hint, table)]
    fields = [(field, field) for field in evaluation.slices]
    if len(fields) > 1:
        shown.insert(0, choice_block("slices", "Sliced by", fields, name))
    return shown


# --------------------------------------------------------------------------------------
# Selections
# --------------------------------------------------------------------------------------


def rank_selection(run: Run, ranked: Identification, place: int) -> Selection:
    """Open the queries whose nearest true match has a rank, with that match."""
    queries = ranked.query[ranked.first_match == place + 1]
    wanted = np.isin(run.pairs.query, queries) & (run.pairs.outcome == TRUE_MATCH)
    pairs = np.flatnonzero(wanted & (run.pairs.rank == place + 1))
    return to_pairs(run, f"nearest true match at rank {place + 1}", pairs)


def missed_selection(run: Run, ranked: Identification, rank: int) -> Selection:
    """Open the queries without a true match up to a rank, with what came first."""
    queries = ranked.query[ranked.first_match > rank]
    return to_queries(run, f"no true match up to rank {rank}", queries)


def worst_selection(run: Run, ranked: Identification, measure: str) -> Selection:
    """Open the queries of the lowest values of a measure, the worst first."""
    values = getattr(ranked, measure)
    order = np.argsort(values, kind="stable")[:MOST_WORST]
    queries = counted(len(order), "query", "queries")
    title = f"the {queries} of the lowest {measure.replace('_', ' ')}"
    return to_queries(run, title, ranked.query[order])


def reviewed_selection(run: Run) -> Selection:
    """Open the pairs with a verdict."""
    pairs = np.array(list(get_verdicts(run)), dtype=np.int64)
    return to_pairs(run, "pairs with a verdict", pairs)


def skipped_selection(run: Run) -> Selection:
    """Open the images that could not be used."""
    skipped = (str(run.items.sample_ids[image.index]) for image in run.skipped)
    return to_samples("images that were skipped", skipped)


def _on_ranked(find: Callable[[Run, Identification], Selection]) -> Mark:
    """Open what depends on the queries' measures alone."""
    return lambda run, params, chosen: Opened(
        find(run, known_figures(run).identification)
    )


def _on_point(run: Run, params: Params, chosen: Choices) -> Opened:
    ranked = known_figures(run).identification
    return Opened(rank_selection(run, ranked, place_of(params)))


def _on_map(run: Run, params: Params, chosen: Choices) -> Opened:
    return Opened(to_outcome(run, (TRUE_MATCH, FALSE_MATCH)[int(params["trace_idx"])]))


def _on_slice(run: Run, params: Params, chosen: Choices) -> Opened:
    evaluation = stored(run, load_evaluation)
    if evaluation is None:
        raise DataError(f"the evaluation of the run '{run.key}' is gone.")
    name = one_of(chosen.slices, evaluation.slices)
    row = evaluation.slices[name][place_of(params)]
    return Opened(to_queries(run, f"{short(name)} {quoted(row.value)}", row.items))


MARKS: Mapping[str, Mark] = {
    "cmc": _on_point,
    "evidence": _on_map,
    "slice_rows": _on_slice,
    "missed_1": _on_ranked(lambda run, ranked: missed_selection(run, ranked, 1)),
    "missed_5": _on_ranked(lambda run, ranked: missed_selection(run, ranked, 5)),
    "worst": _on_ranked(
        lambda run, ranked: worst_selection(run, ranked, "average_precision")
    ),
    "last": _on_ranked(
        lambda run, ranked: worst_selection(run, ranked, "inverse_negative_penalty")
    ),
    "true_matches": lambda run, params, chosen: Opened(to_outcome(run, TRUE_MATCH)),
    "false_matches": lambda run, params, chosen: Opened(to_outcome(run, FALSE_MATCH)),
    "queries": lambda run, params, chosen: Opened(
        to_pairs(run, "first neighbors", np.flatnonzero(run.pairs.rank == 1))
    ),
    "reviewed": lambda run, params, chosen: Opened(reviewed_selection(run)),
    "skipped": lambda run, params, chosen: Opened(skipped_selection(run)),
}
"""Effects of clicks, by the name of the block or the card."""
