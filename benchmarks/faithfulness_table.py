"""Figures and tables from the lines of ``benchmarks/faithfulness.py``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from faithfulness_methods import Method

from fiftyone_sfam.audit.faithfulness.curves import (
    area,
    decision_estimate,
    mean_estimate,
    verification_accuracy,
)
from fiftyone_sfam.audit.statistics.bootstrap import Estimate

# Share of the pixels that are hidden, or shown, where decisions are compared.
DECIDED_AT = 1 / 3

OURS = (
    "path of several scales",
    "path of several scales, 16 steps",
    "path",
)
"""Maps that are compared with the best of the others."""

DEFAULT = "evidence, default layer"
"""Map that is compared with the best of those that mask nothing, if it is listed."""


def summarize(
    settings: dict[str, Any], lines: list[dict[str, Any]], listed: tuple[Method, ...]
) -> dict[str, Any]:
    """Put a network's lines together.

    Parameters
    ----------
    settings : dict
        The first line.
    lines : list of dict
        The others, one per query.
    listed : tuple of Method
        What was compared.

    Returns
    -------
    dict
        Settings, and per method its figures with 95 % intervals over queries, means
        over fills; in ``differences`` path maps against the best other and two
        baselines, and in ``differences by fill`` against the best other.
    """
    queries = np.repeat(np.arange(len(lines)), 2)
    fills = settings["fills"]
    by_fill = {
        method.name: np.stack([_margins(lines, method.name, fill) for fill in fills])
        for method in listed
    }
    margins = {name: values.mean(axis=0) for name, values in by_fill.items()}
    rows = [
        _row(settings, lines, method, by_fill[method.name], queries)
        for method in listed
    ]
    rows.sort(key=lambda row: -row["margin"]["value"])
    others = [row["method"] for row in rows if row["family"] != "ours"]
    against = dict.fromkeys([others[0], "centre prior", "plain activation"])
    differences = {
        ours: {
            name: asdict(mean_estimate(margins[ours] - margins[name], queries))
            for name in against
        }
        for ours in OURS
        if ours in margins
    }
    differences_by_fill = {
        ours: {
            fill: asdict(
                mean_estimate(
                    by_fill[ours][number] - by_fill[others[0]][number], queries
                )
            )
            for number, fill in enumerate(fills)
        }
        for ours in OURS
        if ours in margins
    }
    if DEFAULT in margins:
        unmasked = [
            row["method"] for row in rows if row["family"] in ("gradient", "baseline")
        ]
        differences[DEFAULT] = {
            name: asdict(mean_estimate(margins[DEFAULT] - margins[name], queries))
            for name in dict.fromkeys([unmasked[0], "centre prior"])
        }
    return {
        **settings,
        "queries": len(lines),
        "pairs": 2 * len(lines),
        "best other": others[0],
        "differences": differences,
        "differences by fill": differences_by_fill,
        "rows": rows,
    }


def table(figures: dict[str, Any]) -> str:
    """Write a network's figures as Markdown."""
    fills = figures["fills"]
    head = (
        f"### {figures['network']}\n\n{figures['pairs']} pairs of {figures['queries']} "
        f"queries, {figures['steps']} steps, layer `{figures['layer']}`.\n\n"
        f"| map | ins - del | {' | '.join(fills)} | genuine | impostor | accuracy, "
        "mean | false non-match | false match | 1/3 hidden | 1/3 shown | rank 1 kept | "
        f"ms per pair |\n|{'---|' * (11 + len(fills))}"
    )
    body = [
        f"| {row['method']} | {interval(row['margin'])} | "
        f"{' | '.join(interval(row['by fill'][fill]) for fill in fills)} | "
        f"{row['genuine']:.4f} | {row['impostor']:.4f} | "
        f"{interval(row['decisions'], 3)} | {interval(row['false non-match'], 3)} | "
        f"{interval(row['false match'], 3)} | {row['accuracy hidden']:.3f} | "
        f"{row['accuracy shown']:.3f} | {row['rank kept']:.3f} | "
        f"{1000 * row['seconds']:.0f} |"
        for row in figures["rows"]
    ]
    tail = [
        f"| {ours} minus {name} | {interval(value, signed=True)} |"
        for ours, values in figures["differences"].items()
        for name, value in values.items()
    ]
    tail += [
        f"| {ours} minus {figures['best other']}, {fill} | "
        f"{interval(value, signed=True)} |"
        for ours, values in figures["differences by fill"].items()
        for fill, value in values.items()
        if len(fills) > 1
    ]
    between = ["", "| difference of ins - del | |", "|---|---|"]
    return "\n".join([head, *body, *between, *tail])


def _margins(lines: list[dict[str, Any]], name: str, fill: str) -> np.ndarray:
    """Return insertion minus deletion of the pairs, genuine and impostor in turn."""
    inserted, deleted = (
        area(np.array([line["fills"][fill][kind][name] for line in lines]))
        for kind in ("insertion", "deletion")
    )
    return np.asarray((inserted - deleted).ravel())


def _row(
    settings: dict[str, Any],
    lines: list[dict[str, Any]],
    method: Method,
    by_fill: np.ndarray,
    queries: np.ndarray,
) -> dict[str, Any]:
    name, fills, margins = method.name, settings["fills"], by_fill.mean(axis=0)
    genuine = np.tile([True, False], len(lines))
    step, threshold = round(DECIDED_AT * settings["steps"]), settings["threshold"]
    # Of each fill, pair and step.
    curves = {
        kind: np.stack(
            [
                np.concatenate([line["fills"][fill][kind][name] for line in lines])
                for fill in fills
            ]
        )
        for kind in ("deletion", "insertion")
    }
    hidden, shown = (
        np.mean(
            [
                verification_accuracy(of_fill, genuine, threshold)[step]
                for of_fill in curves[kind]
            ]
        )
        for kind in ("deletion", "insertion")
    )
    accepted = (curves["deletion"] >= threshold).mean(axis=0)
    restored = area((curves["insertion"] >= threshold).mean(axis=0))
    ranks = np.array(
        [[line["fills"][fill]["rank"][name] for fill in fills] for line in lines]
    )
    first = ranks[:, 0, 0] == 1
    return {
        "method": name,
        "family": method.family,
        "margin": asdict(mean_estimate(margins, queries)),
        "by fill": {
            fill: asdict(mean_estimate(values, queries))
            for fill, values in zip(fills, by_fill, strict=True)
        },
        "decisions": asdict(decision_estimate(accepted, genuine, queries)),
        # Error rates while the first pixels of a hidden image are restored: means over
        # the share of restored pixels.
        "false non-match": asdict(
            mean_estimate(1 - restored[genuine], queries[genuine])
        ),
        "false match": asdict(mean_estimate(restored[~genuine], queries[~genuine])),
        "genuine": float(margins[genuine].mean()),
        "impostor": float(margins[~genuine].mean()),
        "insertion": float(area(curves["insertion"]).mean()),
        "deletion": float(area(curves["deletion"]).mean()),
        "accuracy hidden": float(hidden),
        "accuracy shown": float(shown),
        "rank kept": float((ranks[first, :, step] == 1).mean()),
        "seconds": float(np.median([line["seconds"][name] for line in lines])),
    }


def interval(
    value: dict[str, float] | Estimate, digits: int = 4, *, signed: bool = False
) -> str:
    """Write an estimate with its interval."""
    estimate = value if isinstance(value, Estimate) else Estimate(**value)
    plus = "+" if signed else ""
    middle, low, high = (
        f"{number:{plus}.{digits}f}"
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{middle} ({low} to {high})"
