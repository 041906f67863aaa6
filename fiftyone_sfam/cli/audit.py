"""The commands of audits: ``evaluate | decide | suspects | regions | report``."""

from __future__ import annotations

import argparse
from typing import Any

from fiftyone_sfam.cli.support import (
    add_command,
    add_number,
    add_repeated,
    add_run_arguments,
    load_run_of,
    plain_table,
    result_table,
)
from fiftyone_sfam.data.text import counted, one_line

_LEFT_OUT = ("share of the evidence", "per pair")
SHOWN = 20
"""Rows of a list unless ``--top`` says otherwise."""


def add_commands(commands: Any) -> None:
    """Add the commands to a parser."""
    _add_evaluate(commands)
    _add_decide(commands)
    _add_suspects(commands)
    _add_regions(commands)
    _add_report(commands)


# --------------------------------------------------------------------------------------
# evaluate
# --------------------------------------------------------------------------------------


def _add_evaluate(commands: Any) -> None:
    parser = add_command(
        commands,
        "evaluate",
        _evaluate,
        help="measure CMC, mAP, error rates and slices of a run, over all pairs",
        description="Evaluate a run over all pairs of its images, and store the "
        "results with the run.",
    )
    add_run_arguments(parser)
    add_repeated(
        parser,
        "--slice",
        "slices",
        "FIELD",
        "evaluate for each value of a field of the queries",
    )
    add_repeated(
        parser,
        "--pair-slice",
        "pair_slices",
        "FIELD",
        "evaluate for each pair of values of a field, such as the camera",
    )
    parser.add_argument(
        "--cameras",
        choices=("protocol", "all", "cross", "single"),
        default="protocol",
        help="pairs of cameras to compare (default: %(default)s, as the run does)",
    )
    add_repeated(
        parser,
        "--far",
        "fars",
        "RATE",
        "false accept rate to find a threshold for",
        type=float,
    )
    add_number(parser, "--resamples", 1000, "bootstrap resamples of the intervals")
    add_number(parser, "--seed", 0, "random seed", low=0)


def _evaluate(args: argparse.Namespace) -> str:
    run = load_run_of(args)

    from fiftyone_sfam.audit.evaluation.display import (
        measures_table,
        operating_table,
        slice_tables,
    )
    from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
    from fiftyone_sfam.audit.evaluation.scores import FARS

    evaluation = evaluate_retrieval(
        run,
        slices=args.slices,
        pair_slices=args.pair_slices,
        cameras=args.cameras,
        fars=args.fars or FARS,
        resamples=args.resamples,
        seed=args.seed,
    )
    tables = [
        ("", measures_table(evaluation)),
        ("", operating_table(evaluation.verification.operating)),
        *slice_tables(evaluation),
    ]
    return "\n\n".join(
        (f"{one_line(title)}\n" if title else "") + result_table(table)
        for title, table in tables
    )


# --------------------------------------------------------------------------------------
# decide
# --------------------------------------------------------------------------------------


def _add_decide(commands: Any) -> None:
    parser = add_command(
        commands,
        "decide",
        _decide,
        help="set the threshold from which pairs are accepted",
        description="Set the threshold of a run, and count accepted and rejected pairs "
        "beside true and false matches. The panel and the report show them, too.",
    )
    add_run_arguments(parser)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="similarity, or negative distance, from which pairs are accepted",
    )
    chosen.add_argument(
        "--far",
        type=float,
        metavar="RATE",
        help="false accept rate of the evaluation to take the threshold at",
    )


def _decide(args: argparse.Namespace) -> str:
    run = load_run_of(args)

    from fiftyone_sfam.audit.decisions import (
        decide_pairs,
        decisions_sentence,
        decisions_table,
    )

    found = decide_pairs(run, threshold=args.threshold, far=args.far)
    return f"{decisions_sentence(found)}\n\n{result_table(decisions_table(found))}"


# --------------------------------------------------------------------------------------
# suspects
# --------------------------------------------------------------------------------------


def _add_suspects(commands: Any) -> None:
    parser = add_command(
        commands,
        "suspects",
        _suspects,
        help="find wrong labels, split and merged identities, duplicates",
        description="Find labels and images that are probably wrong, and store the "
        "findings with the run.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--kind",
        action="append",
        dest="kinds",
        metavar="KIND",
        help="kind of suspect to look for; may be repeated (default: all)",
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.5,
        help="least score, at least 0 and below 1 (default: %(default)s, the threshold "
        "of each kind)",
    )
    parser.add_argument(
        "--precision",
        type=float,
        metavar="P",
        help="print only the most probable errors of labels, as many as are right with "
        "this frequency: 0.9 for nine times in ten",
    )
    parser.add_argument(
        "--region-field",
        default="auto",
        metavar="FIELD",
        help="field that separates people from background, or 'none' (default: the "
        "field that fits best)",
    )
    parser.add_argument(
        "--split-field",
        metavar="FIELD",
        help="field, or 'tags', that separates the splits: a duplicate in two splits "
        "is a leak",
    )
    add_number(
        parser, "--top", SHOWN, "number of findings to print", low=0, metavar="N"
    )


def _suspects(args: argparse.Namespace) -> str:
    run = load_run_of(args)

    from fiftyone_sfam.audit.suspects.display import (
        counts_table,
        expected_sentence,
        findings_table,
    )
    from fiftyone_sfam.audit.suspects.review import review_suspects, right_first
    from fiftyone_sfam.audit.suspects.search import find_suspects

    if args.precision is not None:
        right_first((), args.precision)  # is refused before the search
    suspects = find_suspects(
        run,
        kinds=args.kinds,
        min_score=args.min_score,
        region_field=None if args.region_field == "none" else args.region_field,
        split_field=args.split_field,
    )
    reviewed = review_suspects(run, suspects)
    listed = reviewed.listed()
    if args.precision is not None:
        right = right_first(reviewed.remaining, args.precision)
        listed = tuple((finding, "") for finding in right)
    counts = counts_table(suspects)
    rows = findings_table([finding for finding, _ in listed[: args.top]]).texts()
    lines = [
        f"{place:>3}  {score}  {kind}{f', {answer}' if answer else ''}\n"
        f"     {one_line(sentence, 600)}\n     {one_line(proposal, 600)}"
        for place, ((score, kind, sentence, proposal), (_, answer)) in enumerate(
            zip(rows, listed, strict=False), 1
        )
    ]
    parts = [
        plain_table(counts.head, counts.texts()),
        "\n".join(lines),
        _more(len(listed) - len(lines)),
        expected_sentence(suspects, reviewed),
        *map(one_line, suspects.limits),
    ]
    return "\n\n".join(filter(None, parts))


def _more(count: int) -> str:
    return f"and {count:,} more" if count > 0 else ""


# --------------------------------------------------------------------------------------
# regions
# --------------------------------------------------------------------------------------


def _add_regions(commands: Any) -> None:
    parser = add_command(
        commands,
        "regions",
        _regions,
        help="split the scores by regions, and find shortcuts",
        description="Split the scores of a run by regions of its images, find "
        "identities and cameras that rely on a region more than others, and store "
        "both with the run.",
    )
    add_run_arguments(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--field",
        metavar="FIELD",
        help="masks or detections that divide the images into regions (default: the "
        "field that fits best)",
    )
    add_number(
        source,
        "--stripes",
        None,
        "divide the images into horizontal stripes instead",
        high=1000,
        metavar="N",
    )
    add_repeated(
        parser,
        "--by",
        "by",
        "NAME",
        "group by this in addition to the outcome: 'camera pair', 'camera', "
        "'identity' or a field",
    )
    add_number(parser, "--max-rank", None, "only pairs up to this rank", metavar="N")
    parser.add_argument(
        "--check",
        metavar="MODEL",
        help="test the ledger by changing a region of images; needs the name of the "
        "run's model, or its source",
    )
    parser.add_argument(
        "--check-region",
        metavar="REGION",
        default="background",
        help="region to change (default: %(default)s)",
    )
    add_number(
        parser, "--top", SHOWN, "number of shortcuts to print", low=0, metavar="N"
    )


def _regions(args: argparse.Namespace) -> str:
    run = load_run_of(args)

    from fiftyone_sfam.audit.regions.display import cell_tables, source
    from fiftyone_sfam.audit.regions.fields import STRIPES, region_fields
    from fiftyone_sfam.audit.regions.ledger import build_ledger
    from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts

    field = args.field
    if field is None and args.stripes is None:
        field = next(iter(region_fields(run)), None)
    ledger = build_ledger(
        run,
        field,
        max_rank=args.max_rank,
        stripes=args.stripes or STRIPES,
        by=args.by,
    )
    where = "stripes" if field is None else source(ledger)
    parts = [f"{counted(len(ledger), 'pair')}, regions from {where}"]
    shown_cells = [
        cell
        for cell in ledger.cells
        if len(cell.groups) == 1 or any(key in args.by for key, _ in cell.groups)
    ]
    for _, table in cell_tables(shown_cells):
        columns = [name for name in table.head if name not in _LEFT_OUT]
        parts.append(result_table(table.columns({name: name for name in columns})))
    if args.check is not None:
        from fiftyone_sfam.audit.regions.causal import check_causally

        check = check_causally(run, args.check, ledger=ledger, region=args.check_region)
        parts.append(one_line(check.sentence, 1000))
    shortcuts = find_shortcuts(run, ledger).found
    shown = shortcuts[: args.top]
    parts.append("shortcuts" if shown else "no shortcuts")
    parts += [one_line(shortcut.sentence, 1000) for shortcut in shown]
    parts.append(_more(len(shortcuts) - len(shown)))
    return "\n\n".join(filter(None, parts))


# --------------------------------------------------------------------------------------
# report
# --------------------------------------------------------------------------------------


def _add_report(commands: Any) -> None:
    parser = add_command(
        commands,
        "report",
        _report,
        help="write a report: a page, tables, and corrections of labels",
        description="Write everything known about a run: a page that opens offline, "
        "tables, and a file of the corrections that its verdicts agree on.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write to"
    )
    parser.add_argument(
        "--images",
        action="store_true",
        help="show the images of the findings, with their maps",
    )
    add_number(
        parser,
        "--max-findings",
        100,
        "number of findings that the page shows",
        low=0,
        metavar="N",
    )
    parser.add_argument(
        "--parquet",
        action=argparse.BooleanOptionalAction,
        help="whether to write the tables as Parquet in addition to CSV (default: if "
        "pyarrow is installed)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="name or source of the run's model, which explains the decisions that "
        "--images shows, if the run keeps no contributions",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier report"
    )


def _report(args: argparse.Namespace) -> str:
    run = load_run_of(args)

    from fiftyone_sfam.audit.report.write import write_report

    files = write_report(
        run,
        args.out,
        images=args.images,
        max_findings=args.max_findings,
        parquet=args.parquet,
        overwrite=args.overwrite,
        model=args.model,
    )
    return "\n".join(map(str, files.paths()))
