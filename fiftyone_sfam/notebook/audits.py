"""Results of audits, as a notebook shows them."""

from __future__ import annotations

from collections.abc import Mapping

from fiftyone_sfam.audit.comparison import display as of_comparison
from fiftyone_sfam.audit.comparison.result import Comparison
from fiftyone_sfam.audit.decisions import (
    Decisions,
    decisions_sentence,
    decisions_table,
)
from fiftyone_sfam.audit.evaluation.display import headline
from fiftyone_sfam.audit.evaluation.evaluate import Evaluation
from fiftyone_sfam.audit.faithfulness.display import curve_figure
from fiftyone_sfam.audit.faithfulness.result import Faithfulness
from fiftyone_sfam.audit.leaks import Leaks, counts_table, pairs_table, persons_table
from fiftyone_sfam.audit.regions.causal_result import CausalCheck
from fiftyone_sfam.audit.regions.display import (
    causal_table,
    claim_figure,
    shortcut_notes,
    shortcut_sentence,
)
from fiftyone_sfam.audit.regions.ledger import Ledger
from fiftyone_sfam.audit.regions.shortcuts import Shortcuts
from fiftyone_sfam.audit.report.comparison import comparison_plots
from fiftyone_sfam.audit.report.pictures import plot
from fiftyone_sfam.audit.report.regions import regions_part
from fiftyone_sfam.audit.report.summary import (
    Card,
    EvaluationPart,
    evaluation_part,
    maps_part,
    verification_part,
)
from fiftyone_sfam.audit.statistics.cells import Shown, count, prose
from fiftyone_sfam.audit.suspects import display as of_suspects
from fiftyone_sfam.audit.suspects.search import Suspects
from fiftyone_sfam.audit.verification.display import headline as verified
from fiftyone_sfam.audit.verification.verify import Verification
from fiftyone_sfam.notebook.part import Part, part_of

SHOWN = 10
"""Most rows of a list that a page shows."""

_RATES = "True accepts at false accept rates"


@part_of.register
def _(result: Evaluation) -> Part:
    figures = headline(result.identification, result.verification.equal_error)
    return _measured("Evaluation of the retrieval", figures, evaluation_part(result))


@part_of.register
def _(result: Verification) -> Part:
    part = verification_part(result)
    assert isinstance(part, EvaluationPart)
    return _measured("Verification of the given pairs", verified(result), part)


def _measured(title: str, figures: Mapping[str, Shown], part: EvaluationPart) -> Part:
    """Show an evaluation or a verification."""
    return Part(
        title=title,
        cards=_cards(figures),
        tables=(
            ("Figures", part.measures),
            (_RATES, part.operating),
            *((name, rows.first(SHOWN)) for name, rows in part.slices),
        ),
        plots=part.figures,
        notes=part.notes,
    )


@part_of.register
def _(result: Suspects) -> Part:
    counts = {kind: count(found) for kind, found in result.counts().items() if found}
    found = of_suspects.findings_table(result.findings).first(SHOWN)
    return Part(
        title=f"Suspects: {len(result.findings):,} findings",
        cards=_cards(counts),
        tables=(("The findings", found),) if found.rows else (),
        notes=of_suspects.notes(result),
    )


@part_of.register
def _(result: Faithfulness) -> Part:
    part = maps_part(result)
    return Part(
        title="How far to trust the maps",
        sentences=part.sentences,
        tables=(("The maps, the most faithful first", part.figures),),
        plots=(
            plot(
                "deletion",
                "Mean similarity while the first pixels are hidden: the lower, the "
                "better the map.",
                curve_figure(result, "deletion"),
            ),
            plot(
                "insertion",
                "Mean similarity while only the first pixels are shown: the higher, "
                "the better the map.",
                curve_figure(result, "insertion"),
            ),
        ),
        notes=part.notes,
    )


@part_of.register
def _(result: Comparison) -> Part:
    tables = [
        ("Figures", of_comparison.figures_table(result)),
        ("Queries", of_comparison.counts_table(result)),
    ]
    if result.regions:
        tables.append(("Regions", of_comparison.regions_table(result)))
    tables += [
        (f"By {field}", of_comparison.groups_table(result, field, SHOWN))
        for field in result.groups
    ]
    return Part(
        title=prose(f"Comparison of {of_comparison.pair_name(result)}"),
        sentences=of_comparison.isolated_sentences(result),
        tables=tuple(tables),
        plots=comparison_plots(result),
        notes=of_comparison.notes(result),
    )


@part_of.register
def _(result: Ledger) -> Part:
    part = regions_part(result, None)
    return Part(
        title="What the scores rest on",
        sentences=part.sentences,
        tables=tuple((name, rows.first(SHOWN)) for name, rows in part.tables),
        plots=() if part.figure is None else (part.figure,),
        notes=part.notes,
    )


@part_of.register
def _(result: Shortcuts) -> Part:
    left_out = len(result) - SHOWN
    more = (f"and {left_out:,} more.",) if left_out > 0 else ()
    return Part(
        title=f"Shortcuts: {len(result):,} found",
        sentences=(*map(shortcut_sentence, result.found[:SHOWN]), *more),
        notes=shortcut_notes(result),
    )


@part_of.register
def _(result: CausalCheck) -> Part:
    drawn = plot(
        "claim",
        "Measured drop of the similarity over the part that the ledger claims.",
        claim_figure(result.claim, result.drop),
    )
    return Part(
        title="Regions, tested by changing the images",
        sentences=(prose(result.sentence),),
        tables=(("The check", causal_table(result)),),
        plots=(drawn,) if len(result.claim) else (),
    )


@part_of.register
def _(result: Decisions) -> Part:
    return Part(
        title="Accepted and rejected pairs",
        sentences=(decisions_sentence(result),),
        tables=(("Outcomes", decisions_table(result)),),
    )


@part_of.register
def _(result: Leaks) -> Part:
    tables = (
        ("Shared images", counts_table(result)),
        ("The most similar ones", pairs_table(result, SHOWN)),
        ("Persons under two labels", persons_table(result, SHOWN)),
    )
    return Part(
        title="What the two data sets share",
        sentences=(prose(result.summary()),),
        tables=tuple((name, rows) for name, rows in tables if rows.rows),
        notes=result.limits,
    )


def _cards(figures: Mapping[str, Shown]) -> tuple[Card, ...]:
    return tuple(Card(title, shown) for title, shown in figures.items())
