"""The commands for pairs that the user has: ``explain-pairs | verify | template``."""

from __future__ import annotations

import argparse
import time
import warnings
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.cli.runs import (
    add_input,
    add_model,
    add_work,
    check_engine_options,
    check_run_key,
    model_of,
    run_options,
    summary,
)
from fiftyone_sfam.cli.support import (
    add_command,
    add_repeated,
    add_run_arguments,
    load_dataset,
    load_run_of,
    result_table,
)
from fiftyone_sfam.errors import DataError, SfamWarning

if TYPE_CHECKING:
    from fiftyone_sfam.attribution.pair import SideExplanation
    from fiftyone_sfam.attribution.template import TemplateExplanation
    from fiftyone_sfam.runs.contributions import StoredSide, StoredTemplate

MOST_REASONS = 5
"""Skipped rows of a list that are printed with their reasons."""


def add_commands(commands: Any) -> None:
    """Add the commands to a parser."""
    _add_explain_pairs(commands)
    _add_verify(commands)
    _add_template(commands)


# --------------------------------------------------------------------------------------
# explain-pairs
# --------------------------------------------------------------------------------------


def _add_explain_pairs(commands: Any) -> None:
    parser = add_command(
        commands,
        "explain-pairs",
        _explain_pairs,
        help="explain the pairs of a list, instead of nearest neighbors",
        description="Compute the maps of both images of each pair of a list, and store "
        "them in the dataset under a run key. Each image that the list names is "
        "processed once.",
    )
    add_model(parser)
    parser.add_argument(
        "--pairs",
        required=True,
        metavar="FILE",
        help="the list: .csv with a head line, .tsv, or the format of LFW's pairs.txt",
    )
    add_repeated(
        parser,
        "--column",
        "columns",
        "NAME=COLUMN",
        "column of a .csv with the query, gallery, label, fold, rank or score, such as "
        "gallery=file2",
        type=_column,
    )
    parser.add_argument(
        "--key", default="pairs", help="key of the run (default: %(default)s)"
    )
    parser.add_argument(
        "--identity-field",
        metavar="FIELD",
        help="field of the identity, for pairs without a label",
    )
    parser.add_argument("--camera-field", metavar="FIELD", help="field of the camera")
    parser.add_argument(
        "--name-field",
        metavar="FIELD",
        help="field with the names of the list's images, instead of their paths",
    )
    add_input(parser)
    add_work(parser)


def _column(text: str) -> tuple[str, str]:
    """Read the column of a table for one of a list's columns."""
    from fiftyone_sfam.data.pair_list import COLUMNS

    name, equals, column = text.partition("=")
    if name not in COLUMNS or not equals or not column:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=COLUMN with a name of {', '.join(COLUMNS)}"
        )
    return name, column


def _explain_pairs(args: argparse.Namespace) -> str:
    check_engine_options(args)

    from fiftyone_sfam.data.pair_list import read_pairs

    pairs = read_pairs(args.pairs, dict(args.columns) or None)
    dataset = load_dataset(args.dataset)
    check_run_key(dataset, args)

    # Only here, since it imports torch.
    from fiftyone_sfam.pipeline.explain_pairs import explain_pairs

    model = model_of(args)
    started = time.perf_counter()
    with warnings.catch_warnings():
        # The summary shows them.
        warnings.simplefilter("ignore", SfamWarning)
        run = explain_pairs(
            dataset,
            model,
            pairs,
            identity_field=args.identity_field,
            camera_field=args.camera_field,
            name_field=args.name_field,
            **run_options(args),
        )
    assert run.given is not None
    return "\n".join([summary(run, started), *run.given.skipped(MOST_REASONS)])


# --------------------------------------------------------------------------------------
# verify
# --------------------------------------------------------------------------------------


def _add_verify(commands: Any) -> None:
    parser = add_command(
        commands,
        "verify",
        _verify,
        help="measure accuracy by folds, ROC and error rates of a list's pairs",
        description="Measure how well a run's given pairs are told apart at a "
        "threshold, and store the result with the run.",
    )
    add_run_arguments(parser, "pairs")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="also measure this threshold: pairs with at least this score are accepted",
    )
    add_repeated(
        parser,
        "--far",
        "fars",
        "RATE",
        "false accept rate to find a threshold for",
        type=float,
    )
    parser.add_argument(
        "--scores",
        choices=("model", "list"),
        default="model",
        help="judge the model's scores or the list's own (default: %(default)s)",
    )


def _verify(args: argparse.Namespace) -> str:
    run = load_run_of(args)

    from fiftyone_sfam.audit.evaluation.display import operating_table
    from fiftyone_sfam.audit.evaluation.scores import FARS
    from fiftyone_sfam.audit.verification.display import (
        folds_table,
        measures_table,
        sentences,
    )
    from fiftyone_sfam.audit.verification.verify import verify_pairs

    verification = verify_pairs(
        run, threshold=args.threshold, fars=args.fars or FARS, scores=args.scores
    )
    tables = [
        measures_table(verification),
        operating_table(verification.scores.operating),
        *([folds_table(verification)] if verification.folds else []),
    ]
    parts = [result_table(table) for table in tables]
    return "\n\n".join([*parts, "\n".join(sentences(verification))])


# --------------------------------------------------------------------------------------
# template
# --------------------------------------------------------------------------------------


def _add_template(commands: Any) -> None:
    parser = add_command(
        commands,
        "template",
        _template,
        help="explain the similarity of images with the mean of others",
        description="Compare an image, or the mean of several, with a template: the "
        "mean of the embeddings of its members. Prints the share of each image of the "
        "similarity, from a run's stored contributions, or with a model.",
    )
    add_run_arguments(parser, "pairs")
    add_repeated(
        parser, "--probe", "probe", "IMAGE", "image to compare: an id, or end of a path"
    )
    add_repeated(parser, "--member", "members", "IMAGE", "image of the template")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="name of an embedding model, or a source, in place of a run",
    )
    parser.add_argument(
        "--raw-lengths",
        action="store_true",
        help="take means of the embeddings as they are, not divided by their lengths",
    )


def _template(args: argparse.Namespace) -> str:
    if not args.probe or not args.members:
        raise DataError(
            "a template needs --probe and --member, with an image at least once each."
        )
    dataset = load_dataset(args.dataset)

    from fiftyone_sfam.audit.statistics.cells import number, percent, table, text
    from fiftyone_sfam.data.image_names import ImageNames, find_image

    ids, paths = dataset.values(["id", "filepath"])
    images = ImageNames(ids, paths)
    sides = [
        [find_image(images, name) for name in names]
        for names in (args.probe, args.members)
    ]
    normalize = not args.raw_lengths
    found: StoredTemplate | TemplateExplanation
    if args.model is None:
        run = load_run_of(args)
        probe, members = ([ids[place] for place in side] for side in sides)
        found = run.explain_template(probe, members, normalize_members=normalize)
    else:
        # Only here, since it imports torch.
        from fiftyone_sfam.attribution.template import explain_template

        found = explain_template(
            args.model,
            [paths[place] for place in sides[0]],
            [paths[place] for place in sides[1]],
            normalize_members=normalize,
        )
    explained: list[StoredSide | SideExplanation] = [*found.probe, *found.members]
    named = [("probe", name) for name in args.probe]
    named += [("member", name) for name in args.members]
    rows = [
        (
            text(side),
            text(name),
            number(one.score, 4),
            percent(one.score / found.score if found.score else None),
            number(one.remainder, 4),
        )
        for (side, name), one in zip(named, explained, strict=True)
    ]
    head = ("side", "image", "share", "of the similarity", "not on its map")
    return (
        f"similarity {found.score:.4f}, distance {found.distance:.4f}, layer "
        f"{found.layer}\n\n{result_table(table(head, rows))}"
    )
