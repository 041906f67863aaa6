"""What the component is told when it opens: runs, a run's kinds of map, the choices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators as foo

from fiftyone_sfam.app.forms.choices import model_choices
from fiftyone_sfam.app.forms.parameters import Parameters, Text
from fiftyone_sfam.app.pairs.encode import encode
from fiftyone_sfam.app.pairs.plain import label, sentence
from fiftyone_sfam.app.pairs.queue import LISTED, RANKS, REVIEWED, suspect_kinds
from fiftyone_sfam.app.panel_state import current_run
from fiftyone_sfam.attribution.render import DIVERGING, SEQUENTIAL, color_table
from fiftyone_sfam.audit.decisions import DECISIONS, stored_threshold
from fiftyone_sfam.audit.regions.fields import region_fields
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import VERDICTS, verdict_counts
from fiftyone_sfam.runs.run import Run, list_runs
from fiftyone_sfam.runs.selection import ORDERS, SUSPECTS

EMPTY_TEXT = (
    "No explained run yet. Explain the dataset's retrieval first: every query gets its "
    "nearest neighbors, with heatmaps of both sides. Or select two samples in the "
    "grid, and they are explained at once."
)
"""What to do in a dataset without runs."""

EXPLAIN = "@fiftyone-sfam/sfam/explain_retrieval"
"""The operator that makes runs."""

MAX_LISTED = 1000
"""Most entries of a list of names from the data."""

THIRDS = ""
"""Name of the receipt by thirds: no field has it, and it is the same as none given."""

# Signs and colors of outcomes, which the color-blind can tell apart.
_OUTCOMES = tuple(zip(OUTCOMES, "✓✗?", ("#1a85ff", "#d41159", "#8a8a8a"), strict=True))


_DECISIONS = tuple(
    zip(
        DECISIONS,
        ("✓+", "✓\N{MINUS SIGN}", "✗+", "✗\N{MINUS SIGN}"),
        ("#1a85ff", "#1a85ff", "#d41159", "#d41159"),
        strict=True,
    )
)


class OpenQuestion(Parameters):
    """Which run is asked for."""

    run: Text | None = None


def answer_open(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """List the runs, describe the one that is asked for or the first, list choices."""
    question = OpenQuestion.read(ctx.params)
    runs = [] if ctx.dataset is None else list_runs(ctx.dataset)[:MAX_LISTED]
    key = question.run if question.run in runs else next(iter(runs), None)
    models, problem = model_choices()
    empty = f"{EMPTY_TEXT} {sentence(problem or '')}".rstrip() if not runs else None
    try:
        run = None if key is None else current_run(ctx.dataset, key)
        about = None if run is None else _about(run)
    except SfamError as error:
        # Another run of the list can still be chosen.
        run, about, empty = None, None, sentence(error)
    texts = (*VERDICTS, *(verdict_counts(run) if run is not None else ()))
    given = [text for text in dict.fromkeys(texts) if text not in REVIEWED][:MAX_LISTED]
    return {
        "runs": runs,
        "run": about,
        "empty": empty,
        "models": _choices(models),
        "colors": _colors(),
        "verdicts": [
            {"name": text, "label": text, "key": str(number)}
            for number, text in enumerate(VERDICTS, start=1)
        ],
        "outcomes": [
            {"name": name, "label": shown, "sign": sign, "color": color}
            for name, shown, sign, color in _outcomes(run)
        ],
        "ranks": _choices(_ranks(run).items()),
        "orders": _choices(
            (name, text)
            for name, text in ORDERS.items()
            if name != SUSPECTS or (about is not None and about["suspects"])
        ),
        "reviewed": _choices([*REVIEWED.items(), *((text, text) for text in given)]),
    }


def _ranks(run: Run | None) -> dict[str, str]:
    return RANKS if run is None or run.ranked else LISTED


def _outcomes(run: Run | None) -> list[tuple[str, str, str, str]]:
    """Return name, label, sign and color; pairs of a list are no matches to find."""
    labels = OUTCOMES
    if run is not None and not run.ranked:
        labels = ("same identity", "different identities", "unlabeled")
    found = [
        (name, shown, sign, color)
        for (name, sign, color), shown in zip(_OUTCOMES, labels, strict=True)
    ]
    if run is None or stored_threshold(run) is None:
        return found
    return [*found, *((name, name, sign, color) for name, sign, color in _DECISIONS)]


def answer_explain(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Open the form of the operator that makes a run."""
    ctx.prompt(EXPLAIN)
    return {}


def _about(run: Run) -> dict[str, Any]:
    """Describe a run."""
    cameras = {label(one) for one in run.items.cameras if one is not None}
    fields = [(THIRDS, "thirds"), *((name, name) for name in region_fields(run))]
    return {
        "key": run.key,
        "uid": run.config.uid,
        "notes": [sentence(note) for note in run.warnings],
        "fields": _choices(fields[:MAX_LISTED]),
        "cameras": sorted(cameras)[:MAX_LISTED],
        "suspects": _choices((kind, kind) for kind in suspect_kinds(run)),
    }


def _choices(named: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return choices from their names and labels."""
    return [{"name": name, "label": label(shown)} for name, shown in named]


def _colors() -> list[dict[str, Any]]:
    """Return the color maps, the first of each sort its default."""
    return [
        {
            "name": name,
            "label": name.removesuffix("_r"),
            "diverging": name in DIVERGING,
            "table": encode(color_table(name)),
        }
        for name in (*SEQUENTIAL, *DIVERGING)
    ]
