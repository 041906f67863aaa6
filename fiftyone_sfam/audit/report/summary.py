"""The report's summary, and what says how the run was made."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fiftyone_sfam.audit.decisions import (
    Decisions,
    decisions_sentence,
    load_decisions,
)
from fiftyone_sfam.audit.evaluation.display import (
    cmc_figure,
    headline,
    measures_table,
    operating_table,
    roc_figure,
    score_figure,
    sentences,
    slice_tables,
)
from fiftyone_sfam.audit.evaluation.evaluate import Evaluation, load_evaluation
from fiftyone_sfam.audit.faithfulness.display import maps_table
from fiftyone_sfam.audit.faithfulness.display import notes as notes_of_maps
from fiftyone_sfam.audit.faithfulness.result import Faithfulness, load_faithfulness
from fiftyone_sfam.audit.fixes.find import Fixes, find_fixes
from fiftyone_sfam.audit.regions.causal_result import CausalCheck, load_causal_check
from fiftyone_sfam.audit.regions.display import shortcut_sentence
from fiftyone_sfam.audit.regions.ledger import Ledger, load_ledger
from fiftyone_sfam.audit.regions.shortcuts import Shortcuts, load_shortcuts
from fiftyone_sfam.audit.report.pictures import Plot, plot
from fiftyone_sfam.audit.statistics.cells import (
    Shown,
    Table,
    count,
    name,
    percent,
    table,
    text,
)
from fiftyone_sfam.audit.suspects.search import Suspects, load_suspects
from fiftyone_sfam.audit.verification.display import folds_table
from fiftyone_sfam.audit.verification.display import headline as verified
from fiftyone_sfam.audit.verification.display import (
    measures_table as verification_table,
)
from fiftyone_sfam.audit.verification.display import (
    sentences as verification_sentences,
)
from fiftyone_sfam.audit.verification.verify import (
    Verification,
    has_both_kinds,
    load_verification,
    measure_pairs,
)
from fiftyone_sfam.data import text as text_of
from fiftyone_sfam.data.protocol import Protocol, rule_name
from fiftyone_sfam.data.text import counted, file_name, without_folders
from fiftyone_sfam.retrieval.pairs import WITHOUT_MATCH
from fiftyone_sfam.review.verdicts import Reviewed, Verdict, get_verdicts, reviewed
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import LIST, RANKING, SEARCH


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that is known about a run; None where it was not looked for."""

    evaluation: Evaluation | None  # how good the retrieval is
    verification: Verification | None  # how well a given list is told apart
    decisions: Decisions | None  # which pairs are accepted
    suspects: Suspects | None  # findings
    ledger: Ledger | None  # what regions carry
    causal: CausalCheck | None  # what changing a region did
    shortcuts: Shortcuts | None  # who is known by a region
    faithfulness: Faithfulness | None  # how far to trust the maps
    verdicts: dict[int, Verdict]  # what people say, by pair
    reviewed: Reviewed  # how far they are
    fixes: Fixes | None  # corrections that follow


@dataclass(frozen=True)
class MapsPart:
    """How far to trust the maps."""

    sentences: tuple[str, ...]
    figures: Table
    notes: tuple[str, ...]


def maps_part(result: Faithfulness) -> MapsPart:
    """Lay out a check of the maps."""
    return MapsPart(result.sentences, maps_table(result), notes_of_maps(result))


@dataclass(frozen=True)
class Missing:
    """A part of a report that nothing is known for."""

    what: str  # what is missing, as a sentence
    operator: str  # label of the operator that computes it
    command: str  # command that does


def load_results(run: Run) -> Results:
    """Read everything that is known about a run."""
    labeled = run.config.protocol.get("identity_field") is not None
    return Results(
        evaluation=load_evaluation(run),
        verification=_verification(run),
        decisions=load_decisions(run),
        suspects=load_suspects(run),
        ledger=load_ledger(run),
        causal=load_causal_check(run),
        shortcuts=load_shortcuts(run),
        faithfulness=load_faithfulness(run),
        verdicts=get_verdicts(run),
        reviewed=reviewed(run),
        fixes=find_fixes(run) if labeled else None,
    )


def _verification(run: Run) -> Verification | None:
    """Read or compute the verification of a given list that has labels."""
    if run.given is None or not has_both_kinds(run):
        return None
    return load_verification(run) or measure_pairs(run)


def missing(run: Run, what: str, operator: str, command: str) -> Missing:
    """Say what computes a part of the report."""
    words = ("fiftyone-sfam", command, run.dataset.name, run.key)
    return Missing(what, f"SFAM: {operator}", shlex.join(words))


_PAIR_SOURCES = {
    SEARCH: "a search of the nearest neighbors",
    LIST: "a given list",
    RANKING: "a given ranking",
}

MAX_SKIPPED = 100
"""Most skipped images that are listed."""


@dataclass(frozen=True)
class EvaluationPart:
    """The evaluation."""

    figures: tuple[Plot, ...]
    measures: Table
    operating: Table
    slices: tuple[tuple[str, Table], ...]  # titles and tables
    notes: tuple[str, ...]  # how it was made


def evaluation_part(evaluation: Evaluation) -> EvaluationPart:
    """Lay an evaluation out."""
    scores = evaluation.verification
    supported = [
        (point.far, point.tar) for point in scores.operating if point.supported
    ]
    return EvaluationPart(
        (
            plot(
                "cmc",
                "Share of queries with a true match among their nearest neighbors.",
                cmc_figure(evaluation.identification),
            ),
            plot(
                "scores",
                "Scores of all pairs; the line is the threshold of the equal error "
                "rate.",
                score_figure(
                    scores, evaluation.score_name, scores.equal_error_threshold
                ),
            ),
            plot(
                "roc",
                "True accept rate over false accept rate, for every threshold on the "
                "score.",
                roc_figure(scores, supported, "supported rates"),
            ),
        ),
        measures_table(evaluation),
        operating_table(scores.operating),
        tuple((title, rows.first()) for title, rows in slice_tables(evaluation)),
        sentences(evaluation),
    )


def verification_part(verification: Verification | None) -> EvaluationPart | Missing:
    """Lay a verification out."""
    if verification is None:
        what = "The list has no labeled pairs of both kinds, so there is no figure."
        return Missing(what, "", "")
    scores = verification.scores
    points = [(point.far, point.tar) for point in scores.operating if point.supported]
    folds = folds_table(verification)
    return EvaluationPart(
        (
            plot(
                "scores",
                "Scores of the list's pairs; the line is the threshold of the equal "
                "error rate.",
                score_figure(
                    scores, verification.score_name, scores.equal_error_threshold
                ),
            ),
            plot(
                "roc",
                "True accept rate over false accept rate, for every threshold on the "
                "score.",
                roc_figure(scores, points, "supported rates"),
            ),
        ),
        verification_table(verification),
        operating_table(scores.operating),
        (("By fold", folds.first()),) if folds.rows else (),
        verification_sentences(verification),
    )


@dataclass(frozen=True)
class Card:
    """One figure of the summary."""

    title: str  # what it is
    shown: Shown  # the figure


def cards(run: Run, results: Results) -> list[Card]:
    """Return the figures of the summary."""
    counts = run.counts
    shown = [
        Card("images", count(counts["images"])),
        Card("queries", count(counts["queries"])),
        Card("pairs explained", count(counts["pairs"])),
    ]
    shown += _measures(run, results)
    if results.suspects is not None:
        shown.append(Card("findings", count(len(results.suspects.findings))))
    shown.append(Card("pairs reviewed", count(results.reviewed.pairs)))
    return shown


def _measures(run: Run, results: Results) -> list[Card]:
    """Return the figures of a retrieval, or of a given list."""
    counts, evaluation = run.counts, results.evaluation
    if not run.ranked:
        shown = [
            Card("pairs of one identity", count(counts["true match"])),
            Card("pairs of two identities", count(counts["false match"])),
        ]
    else:
        shown = [Card("false matches at rank 1", count(counts["false match"]))]
        if counts[WITHOUT_MATCH]:
            title = "queries without a match to find"
            shown.append(Card(title, count(counts[WITHOUT_MATCH])))
    if results.verification is not None:
        figures = verified(results.verification)
        return [Card(title, value) for title, value in figures.items()] + shown
    if evaluation is not None:
        values = headline(
            evaluation.identification, evaluation.verification.equal_error
        )
        figures = {title: cell for title, cell in values.items() if title != "rank-5"}
        return [Card(title, value) for title, value in figures.items()] + shown
    if run.ranked:
        shown.insert(0, Card("rank-1", percent(run.summary()["rank1"])))
    return shown


def highlights(run: Run, results: Results) -> list[str]:
    """Return the most important results as sentences."""
    texts, check = list(run.warnings), run.map_check
    if check is not None and not check.is_caution:
        texts.append(check.sentence)
    if results.decisions is not None:
        texts.append(decisions_sentence(results.decisions))
    if results.suspects is not None:
        kinds = results.suspects.counts()
        counts = [f"{kind} {number:,}" for kind, number in kinds.items() if number]
        texts.append(f"Findings: {', '.join(counts) or 'none'}.")
    if results.shortcuts is not None and results.shortcuts.found:
        first = shortcut_sentence(results.shortcuts.found[0])
        texts.append(f"The strongest shortcut: {first}")
    fixes = results.fixes
    if fixes is not None and (fixes.fixes or fixes.conflicts):
        texts.append(
            f"Verdicts agree on {counted(len(fixes.agreed), 'correction')} of labels; "
            f"{counted(len(fixes.open), 'label')} may be wrong without a right one "
            f"being known, and {counted(len(fixes.conflicts), 'contradiction')} wait."
        )
    if run.given is not None and run.given.reasons:
        skipped = counted(len(run.given.reasons), "row")
        row = min(run.given.reasons)
        reason = without_folders(run.given.reasons[row])
        texts.insert(
            0,
            f"{skipped} of the list were skipped of {len(run.given.listed):,}; the "
            f"first reason: row {row}, {reason}",
        )
    return texts


def config_table(run: Run) -> Table:
    """Show how a run was made."""
    config = run.config
    channels, height, width = config.map_shape
    share = config.share_on_map
    shown = None if share is None else text_of.percent(share)
    rows: list[tuple[str, Any]] = [
        ("model", config.model),
        ("weights (hash)", config.weights_hash),
        ("layer", config.layer),
        ("feature map", f"{counted(channels, 'channel')} of {height} x {width}"),
        ("precision", config.precision),
        ("metric", config.metric),
        ("pairs from", _PAIR_SOURCES[config.pair_source]),
        ("neighbors per query (k)", config.k if run.given is None else None),
        ("kinds of map", ", ".join(config.kinds)),
        ("chosen by measurement", (config.chosen or {}).get("sentence")),
        ("pairs with maps along paths", config.path_pairs),
        ("channel weights", config.weights),
        ("stored as", config.map_dtype),
        ("contributions of positions", config.contributions),
        ("detections", config.patches_field),
        ("embeddings", config.embeddings),
        ("share of the score on the maps", shown),
    ]
    rows += [
        (f"protocol: {key.replace('_', ' ')}", value)
        for key, value in config.protocol.items()
        if key != "exclude"
    ]
    rules = Protocol.from_dict(config.protocol).exclude
    if rules:
        rows.append(("protocol: exclude", "; ".join(map(rule_name, rules))))
    rows += [(f"count: {key}", value) for key, value in run.counts.items()]
    return table(
        ("setting", "value"), [(text(key), _setting(value)) for key, value in rows]
    )


def versions_table(versions: Iterable[tuple[str, str]]) -> Table:
    """Show versions of packages."""
    rows = [(text(key), name(without_folders(value))) for key, value in versions]
    return table(("package", "version"), rows)


def skipped_table(run: Run) -> Table:
    """List the images that a run could not use."""
    rows = [
        (
            text(image.id),
            name(file_name(image.filepath)),
            name(without_folders(image.reason, image.filepath)),
        )
        for image in run.skipped
    ]
    return table(("id", "file", "reason"), rows, MAX_SKIPPED)


def _setting(value: Any) -> Shown:
    """Show a setting."""
    if isinstance(value, bool):
        return text("yes" if value else "no")
    if isinstance(value, int):
        return Shown(f"{value:,}", "text", value)
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value)) or None
    return name(None if value is None else without_folders(str(value)))
