"""Figures and tables from the lines of ``benchmarks/faithfulness.py``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from faithfulness_methods import Method

from fiftyone_sfam.audit.faithfulness.result import (
    area,
    mean_estimate,
    verification_accuracy,
)
from fiftyone_sfam.audit.statistics.bootstrap import Estimate

# Share of the pixels that are hidden, or shown, where decisions are compared.
DECIDED_AT = 1 / 3

OURS = ("path of several scales", "path")
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
        Settings, and per method its figures with 95 % intervals over queries; in
        ``differences`` path maps against the best other and two baselines.
    """
    queries = np.repeat(np.arange(len(lines)), 2)
    margins = {method.name: _margins(lines, method.name) for method in listed}
    rows = [
        _row(settings, lines, method, margins[method.name], queries)
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
        "rows": rows,
    }


def table(figures: dict[str, Any]) -> str:
    """Write a network's figures as Markdown."""
    head = (
        f"### {figures['network']}\n\n{figures['pairs']} pairs of {figures['queries']} "
        f"queries, {figures['steps']} steps, layer `{figures['layer']}`.\n\n"
        "| map | ins - del | genuine | impostor | accuracy, 1/3 hidden | 1/3 shown | "
        "rank 1 kept | ms per pair |\n|---|---|---|---|---|---|---|---|"
    )
    body = [
        f"| {row['method']} | {_interval(row['margin'])} | {row['genuine']:.4f} | "
        f"{row['impostor']:.4f} | {row['accuracy hidden']:.3f} | "
        f"{row['accuracy shown']:.3f} | {row['rank kept']:.3f} | "
        f"{1000 * row['seconds']:.0f} |"
        for row in figures["rows"]
    ]
    tail = [
        f"| {ours} minus {name} | {_interval(value, signed=True)} |"
        for ours, values in figures["differences"].items()
        for name, value in values.items()
    ]
    between = ["", "| difference of ins - del | |", "|---|---|"]
    return "\n".join([head, *body, *between, *tail])


def _margins(lines: list[dict[str, Any]], name: str) -> np.ndarray:
    """Return insertion minus deletion of the pairs, genuine and impostor in turn."""
    inserted, deleted = (
        area(np.array([line[kind][name] for line in lines]))
        for kind in ("insertion", "deletion")
    )
    return np.asarray((inserted - deleted).ravel())


def _row(
    settings: dict[str, Any],
    lines: list[dict[str, Any]],
    method: Method,
    margins: np.ndarray,
    queries: np.ndarray,
) -> dict[str, Any]:
    name = method.name
    genuine = np.tile([True, False], len(lines))
    step = round(DECIDED_AT * settings["steps"])
    curves = {
        kind: np.concatenate([line[kind][name] for line in lines])
        for kind in ("deletion", "insertion")
    }
    hidden, shown = (
        verification_accuracy(curves[kind], genuine, settings["threshold"])[step]
        for kind in ("deletion", "insertion")
    )
    ranks = np.array([line["rank"][name] for line in lines])
    first = ranks[:, 0] == 1
    return {
        "method": name,
        "family": method.family,
        "margin": asdict(mean_estimate(margins, queries)),
        "genuine": float(margins[genuine].mean()),
        "impostor": float(margins[~genuine].mean()),
        "insertion": float(area(curves["insertion"]).mean()),
        "deletion": float(area(curves["deletion"]).mean()),
        "accuracy hidden": float(hidden),
        "accuracy shown": float(shown),
        "rank kept": float((ranks[first, step] == 1).mean()),
        "seconds": float(np.median([line["seconds"][name] for line in lines])),
    }


def _interval(value: dict[str, float] | Estimate, signed: bool = False) -> str:
    estimate = value if isinstance(value, Estimate) else Estimate(**value)
    plus = "+" if signed else ""
    middle, low, high = (
        f"{number:{plus}.4f}"
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{middle} ({low} to {high})"
