"""The commands that make and manage runs: ``explain | runs | prune``."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from fiftyone_sfam.cli.layouts import imported_protocol, use_imported_boxes
from fiftyone_sfam.cli.prune import add_prune
from fiftyone_sfam.cli.support import (
    add_command,
    add_number,
    add_repeated,
    load_dataset,
)
from fiftyone_sfam.errors import DataError, ProtocolWarning, RunError, SfamWarning

if TYPE_CHECKING:
    import fiftyone as fo

    from fiftyone_sfam.runs.run import Run

_LARGEST = 2**31 - 1


def add_commands(commands: Any) -> None:
    """Add the commands to a parser."""
    _add_explain(commands)
    _add_runs(commands)
    add_prune(commands)


# --------------------------------------------------------------------------------------
# explain
# --------------------------------------------------------------------------------------


def _add_explain(commands: Any) -> None:
    parser = add_command(
        commands,
        "explain",
        _explain,
        help="explain the retrieval of a dataset",
        description="Find the nearest neighbors of each query, compute the maps of "
        "both images of each pair, and store them in the dataset under a run key.",
    )
    add_model(parser)
    parser.add_argument(
        "--key", default="sfam", help="key of the run (default: %(default)s)"
    )
    add_number(parser, "--k", 5, "neighbors per query", high=_LARGEST)
    add_input(parser)
    parser.add_argument(
        "--neighbors",
        choices=("exact", "index"),
        default="exact",
        help="compare each query with the whole gallery, or only with the neighbors "
        "that the index of --brain-key finds (default: %(default)s)",
    )
    add_work(parser)
    _add_protocol(parser)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a dataset and a model."""
    parser.add_argument("dataset", help="name of a FiftyOne dataset")
    parser.add_argument(
        "--model",
        required=True,
        help="name of an embedding model, or a source such as timm:convnext_atto",
    )
    parser.add_argument(
        "--model-options",
        type=_json_object,
        default={},
        metavar="JSON",
        help="options of a source as in the registry file, such as "
        '\'{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}\'',
    )


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is compared."""
    parser.add_argument(
        "--patches-field",
        metavar="FIELD",
        help="explain the detections of this field instead of whole images",
    )
    stored = parser.add_mutually_exclusive_group()
    stored.add_argument(
        "--embeddings-field", metavar="FIELD", help="use the embeddings of this field"
    )
    stored.add_argument(
        "--brain-key",
        metavar="KEY",
        help="use the embeddings of this similarity index",
    )


def add_work(parser: argparse.ArgumentParser) -> None:
    """Add the options of how a run is made and stored."""
    parser.add_argument(
        "--contributions",
        choices=("int8", "float16"),
        help="also store what explains any two images later without the model, in "
        "this type",
    )
    add_number(
        parser,
        "--contribution-dims",
        None,
        "directions that the contributions are projected to, for fewer bytes",
        high=_LARGEST,
    )
    add_repeated(
        parser,
        "--kind",
        "kinds",
        "KIND",
        "map to store, the first shown first: sfam, evidence, path, scales, or best, "
        "which is scales; the last three are finer and slower; auto alone measures all "
        "on a sample and takes the best (default: sfam evidence)",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="layer of the maps, or auto, which measures the last one of each "
        "resolution on a sample (default: the model's own)",
    )
    parser.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="do not measure the stored maps on a sample of pairs",
    )
    parser.add_argument(
        "--path-pairs",
        choices=("rank1", "false", "all"),
        default="rank1",
        help="pairs that get the maps path and scales: those of rank 1, only the false "
        "matches of these, or all (default: %(default)s)",
    )
    add_number(parser, "--batch-size", 32, "images per forward pass", high=_LARGEST)
    add_number(
        parser,
        "--num-workers",
        None,
        "threads that read images (default: one per core, at most 8)",
        low=0,
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--overwrite", action="store_true", help="replace an existing run of this key"
    )
    again.add_argument(
        "--update",
        action="store_true",
        help="bring an existing run of this key up to date; only new images, and "
        "those with new pairs, pass through the network",
    )
    _add_engine(parser)


def _fields(text: str) -> tuple[str, ...]:
    """Read names of fields between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _json_object(text: str) -> dict[str, Any]:
    """Read an object in JSON."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid JSON") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value


def _add_engine(parser: argparse.ArgumentParser) -> None:
    engine = parser.add_argument_group("engine", "where the images are processed")
    engine.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="this process, or a Ray cluster: that of RAY_ADDRESS, or a new one on "
        "this machine (default: %(default)s)",
    )
    add_number(engine, "--ray-workers", None, "number of workers on the cluster")
    engine.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="GPUS",
        help="GPUs of each worker; may be a fraction",
    )


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    rules = parser.add_argument_group("protocol", "which images are compared")
    rules.add_argument(
        "--identity-field", metavar="FIELD", help="field of the identity"
    )
    rules.add_argument(
        "--camera-field",
        metavar="FIELD",
        help="field of the camera; leaves out neighbors of the same identity and "
        "camera as the query",
    )
    add_repeated(
        rules,
        "--exclude",
        "exclude",
        "FIELDS",
        "rule that leaves out neighbors with the query's values in all these fields, "
        "such as identity,clothes or encounter; date leaves out those of the same day, "
        "date:12h those of half a day",
    )
    rules.add_argument(
        "--split-field",
        metavar="FIELD",
        help="field, or 'tags', that separates queries from the gallery",
    )
    rules.add_argument(
        "--query-value",
        metavar="VALUE",
        default="query",
        help="value of queries in --split-field (default: %(default)s)",
    )
    rules.add_argument(
        "--gallery-value",
        metavar="VALUE",
        default="gallery",
        help="value of the gallery in --split-field (default: %(default)s)",
    )
    rules.add_argument(
        "--query-field",
        metavar="FIELD",
        help="boolean field that is true for queries, instead of --split-field",
    )
    rules.add_argument(
        "--gallery-field",
        metavar="FIELD",
        help="boolean field that is true for the gallery; an image may be both",
    )
    add_repeated(
        rules, "--junk", "junk", "IDENTITY", "identity to leave out everywhere"
    )
    add_repeated(
        rules,
        "--distractor",
        "distractors",
        "IDENTITY",
        "identity of the gallery that matches nobody",
    )
    rules.add_argument(
        "--exclude-duplicates",
        action="store_true",
        help="leave out neighbors that are exact copies of the query",
    )
    add_number(
        rules,
        "--gallery-shots",
        None,
        "also evaluate with a gallery of this many random images per identity",
        high=_LARGEST,
    )
    rules.add_argument(
        "--gallery-per",
        type=_fields,
        default=(),
        metavar="FIELDS",
        help="draw them for each combination of these fields, such as identity,camera "
        "(default: the identity field)",
    )
    add_number(rules, "--draws", 10, "number of such galleries", high=_LARGEST)
    add_number(rules, "--draw-seed", 0, "seed of these", low=0, high=2**32 - 1)


def _explain(args: argparse.Namespace) -> str:
    check_engine_options(args)
    if args.neighbors == "index" and args.brain_key is None:
        raise DataError(
            "--neighbors index needs a similarity index; give its name as --brain-key."
        )

    from fiftyone_sfam.data.protocol import Protocol, parse_rule

    protocol = Protocol(
        identity_field=args.identity_field,
        camera_field=args.camera_field,
        split_field=args.split_field,
        query_value=args.query_value,
        gallery_value=args.gallery_value,
        junk=tuple(args.junk),
        distractors=tuple(args.distractors),
        exclude_duplicates=args.exclude_duplicates,
        exclude=tuple(map(parse_rule, args.exclude)),
        query_field=args.query_field,
        gallery_field=args.gallery_field,
        gallery_shots=args.gallery_shots,
        gallery_per=args.gallery_per,
        draws=args.draws,
        seed=args.draw_seed,
    )
    dataset = load_dataset(args.dataset)
    use_imported_boxes(dataset, args)
    check_run_key(dataset, args)
    if protocol == Protocol():
        protocol = imported_protocol(dataset) or protocol

    # Only here, since it imports torch.
    from fiftyone_sfam.pipeline.explain import explain_retrieval

    model = model_of(args)
    started = time.perf_counter()
    with warnings.catch_warnings():
        # The summary shows them; before the run, only what concerns the protocol.
        warnings.simplefilter("ignore", SfamWarning)
        warnings.simplefilter("always", ProtocolWarning)
        warnings.showwarning = _show_warning
        run = explain_retrieval(
            dataset,
            model,
            k=args.k,
            protocol=protocol,
            neighbors=args.neighbors,
            **run_options(args),
        )
    return summary(run, started)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning without the place in the code that it comes from."""
    print(f"warning: {message}", file=sys.stderr)


def check_engine_options(args: argparse.Namespace) -> None:
    """Raise if there are options of an engine that is not used."""
    given = (args.ray_workers, args.gpus_per_worker) != (None, None)
    if args.engine == "local" and given:
        raise DataError(
            "--ray-workers and --gpus-per-worker are options of the Ray engine; give "
            "--engine ray, or leave them out."
        )


def model_of(args: argparse.Namespace) -> Any:
    """Load the model that the arguments name; a registered one stays a name."""
    from fiftyone_sfam.models import load_model
    from fiftyone_sfam.models.sources import parse_source

    if args.model_options or parse_source(args.model) is not None:
        return load_model(args.model, **args.model_options)
    return args.model


def run_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a run that do not depend on where its pairs come from."""
    names = (
        *("key", "patches_field", "contributions", "contribution_dims", "batch_size"),
        *("num_workers", "engine", "overwrite", "update", "path_pairs"),
        *("layer", "check"),
    )
    engine = {"num_workers": args.ray_workers, "gpus_per_worker": args.gpus_per_worker}
    embeddings = args.brain_key
    return {
        **{name: getattr(args, name) for name in names},
        **({"kinds": args.kinds} if args.kinds else {}),
        "embeddings": args.embeddings_field if embeddings is None else embeddings,
        "engine_options": {k: v for k, v in engine.items() if v is not None},
    }


def check_run_key(dataset: fo.Dataset, args: argparse.Namespace) -> None:
    """Refuse a run key that is not free, before torch is imported."""
    from fiftyone_sfam.pipeline.manage import check_key
    from fiftyone_sfam.runs.run import list_runs

    check_key(dataset, args.key, args.patches_field)
    if args.key in list_runs(dataset) and not (args.overwrite or args.update):
        raise RunError(
            f"'{dataset.name}' has a run '{args.key}' already; give --overwrite to "
            "replace it, or another --key."
        )


def summary(run: Run, started: float) -> str:
    """Describe a run that was just made, in rows and warnings."""
    seconds = time.perf_counter() - started
    facts = {
        "dataset": run.dataset.name,
        "run": run.key,
        **run.summary(),
        "seconds": seconds,
    }
    texts = facts.pop("warnings")
    if facts.get("maps") in texts:
        del facts["maps"]
    rows = [(name.replace("_", " "), _text(value)) for name, value in facts.items()]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True)
    return "\n".join([table, *(f"warning: {text}" for text in texts)])


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------------------
# runs
# --------------------------------------------------------------------------------------


def _add_runs(commands: Any) -> None:
    parser = add_command(
        commands,
        "runs",
        _runs,
        help="list, rename or delete the runs of a dataset",
        description="List the keys of the runs of a dataset, or rename or delete one.",
    )
    parser.add_argument("dataset", help="name of a FiftyOne dataset")
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--delete", metavar="KEY", help="delete a run, with its fields and maps"
    )
    change.add_argument(
        "--rename", nargs=2, metavar=("OLD", "NEW"), help="give a run another key"
    )


def _runs(args: argparse.Namespace) -> str:
    dataset = load_dataset(args.dataset)

    from fiftyone_sfam.pipeline.manage import delete_run, rename_run
    from fiftyone_sfam.runs.run import list_runs

    if args.delete is not None:
        delete_run(dataset, args.delete)
        return f"Deleted the run '{args.delete}'."
    if args.rename is not None:
        old, new = args.rename
        rename_run(dataset, old, new)
        return f"Renamed the run '{old}' to '{new}'."
    return "\n".join(list_runs(dataset)) or f"'{dataset.name}' has no runs."
