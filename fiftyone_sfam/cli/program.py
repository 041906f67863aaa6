"""The command line: ``fiftyone-sfam demo | explain | runs | ... | install``.

The commands that audit a run are in :mod:`fiftyone_sfam.cli.audit`,
:mod:`fiftyone_sfam.cli.faithfulness` and :mod:`fiftyone_sfam.cli.verdicts`; ``prune``
is in :mod:`fiftyone_sfam.cli.prune`.

Arguments are parsed before FiftyOne or torch are imported, so that ``--help`` and
mistakes answer at once.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fiftyone_sfam._version import __version__
from fiftyone_sfam.cli import audit as cli_audit
from fiftyone_sfam.cli import faithfulness as cli_faithfulness
from fiftyone_sfam.cli import prune as cli_prune
from fiftyone_sfam.cli import verdicts as cli_verdicts
from fiftyone_sfam.cli.support import load_dataset, whole_number
from fiftyone_sfam.errors import DataError, SfamError, SfamWarning

if TYPE_CHECKING:
    import fiftyone as fo

DEMO_DATASET = "sfam-demo"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    args = _parser().parse_args(argv)
    try:
        text = args.run(args)
    except SfamError as error:
        print(f"fiftyone-sfam: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if text:
        print(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fiftyone-sfam",
        description="Explain nearest-neighbor pairs of face and person re-ID "
        "embeddings in FiftyOne.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_explain(commands)
    _add_runs(commands)
    cli_audit.add_commands(commands)
    cli_faithfulness.add_commands(commands)
    cli_verdicts.add_commands(commands)
    cli_prune.add_commands(commands)
    _add_install(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="explain the built-in demo people and open them in the App",
        description="Draw the demo people, explain their retrieval with the demo "
        "network, print a summary and serve the App until interrupted.",
    )
    demo.add_argument(
        "--app",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="serve the App after the summary",
    )
    demo.add_argument(
        "--seed",
        type=whole_number(0),
        default=51,
        help="seed of the demo people (default: 51)",
    )
    demo.add_argument(
        "--identities", type=whole_number(1), default=40, help="how many (default: 40)"
    )
    _add_server(demo)
    demo.set_defaults(run=_run_demo)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=whole_number(1, 65535),
        help="port of the App; FiftyOne's default otherwise",
    )
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="address that the App listens on (default: %(default)s)",
    )


def _add_explain(commands: Any) -> None:
    explain = commands.add_parser(
        "explain",
        help="explain the retrieval of a dataset",
        description="Find each query's nearest neighbors, compute the maps of both "
        "sides of each pair, and store them in the dataset under a run key.",
    )
    explain.add_argument("dataset", help="name of a FiftyOne dataset")
    explain.add_argument("--model", required=True, help="name of an embedding model")
    explain.add_argument("--key", default="sfam", help="run key (default: %(default)s)")
    explain.add_argument(
        "--k", type=whole_number(1), default=5, help="neighbors per query (default: 5)"
    )
    explain.add_argument(
        "--patches-field", help="explain the objects of this field, not whole images"
    )
    stored = explain.add_mutually_exclusive_group()
    stored.add_argument(
        "--embeddings-field",
        dest="embeddings",
        metavar="FIELD",
        help="take stored embeddings from this field",
    )
    stored.add_argument(
        "--brain-key",
        dest="embeddings",
        metavar="KEY",
        help="take stored embeddings from this similarity index",
    )
    explain.add_argument("--batch-size", type=whole_number(1), default=32)
    explain.add_argument(
        "--num-workers", type=whole_number(0), help="threads that read images"
    )
    explain.add_argument(
        "--overwrite", action="store_true", help="replace an existing run of this key"
    )
    explain.add_argument(
        "--neighbors",
        choices=("exact", "index"),
        default="exact",
        help="compare with the whole gallery, or with what the similarity index of "
        "--brain-key finds (default: %(default)s)",
    )
    _add_engine(explain)
    _add_protocol(explain)
    explain.set_defaults(run=_run_explain)


def _add_engine(explain: argparse.ArgumentParser) -> None:
    engine = explain.add_argument_group("engine: who does the work")
    engine.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="this process, or the Ray cluster of RAY_ADDRESS, or else one on this "
        "machine (default: %(default)s)",
    )
    engine.add_argument(
        "--ray-workers", type=whole_number(1), help="workers of the cluster"
    )
    engine.add_argument(
        "--gpus-per-worker", type=float, metavar="GPUS", help="may be a part of one"
    )


def _engine_options(args: argparse.Namespace) -> dict[str, Any]:
    """Collect the options of the engine that were given."""
    options = {"num_workers": args.ray_workers, "gpus_per_worker": args.gpus_per_worker}
    return {name: value for name, value in options.items() if value is not None}


def _add_protocol(explain: argparse.ArgumentParser) -> None:
    rules = explain.add_argument_group("protocol: who may be a neighbor of whom")
    rules.add_argument("--identity-field", metavar="FIELD")
    rules.add_argument(
        "--camera-field",
        metavar="FIELD",
        help="leave out neighbors of the query's own identity and camera",
    )
    rules.add_argument(
        "--split-field",
        metavar="FIELD",
        help="field, or 'tags', that tells queries from gallery",
    )
    rules.add_argument("--query-value", metavar="VALUE", default="query")
    rules.add_argument("--gallery-value", metavar="VALUE", default="gallery")
    rules.add_argument(
        "--junk",
        action="append",
        metavar="IDENTITY",
        default=[],
        help="an identity that is left out everywhere; may be repeated",
    )
    rules.add_argument(
        "--distractor",
        action="append",
        dest="distractors",
        metavar="IDENTITY",
        default=[],
        help="an identity of the gallery that matches nobody; may be repeated",
    )
    rules.add_argument(
        "--exclude-duplicates",
        action="store_true",
        help="leave out neighbors that are exact copies of the query",
    )


def _add_runs(commands: Any) -> None:
    runs = commands.add_parser("runs", help="list, rename or delete a dataset's runs")
    runs.add_argument("dataset", help="name of a FiftyOne dataset")
    change = runs.add_mutually_exclusive_group()
    change.add_argument("--delete", metavar="KEY", help="delete a run, with its fields")
    change.add_argument("--rename", nargs=2, metavar=("OLD", "NEW"))
    runs.set_defaults(run=_run_runs)


def _add_install(commands: Any) -> None:
    install = commands.add_parser(
        "install", help="put the plugin into FiftyOne's plugins folder"
    )
    install.add_argument(
        "--plugins-dir", metavar="DIR", help="another folder than FiftyOne's own"
    )
    install.add_argument(
        "--copy", action="store_true", help="write a small folder instead of a link"
    )
    install.set_defaults(run=_run_install)


def _run_demo(args: argparse.Namespace) -> None:
    import fiftyone as fo

    from fiftyone_sfam.data.protocol import Protocol
    from fiftyone_sfam.demo.dataset import load_demo_dataset
    from fiftyone_sfam.models import load_model
    from fiftyone_sfam.pipeline.explain import explain_retrieval

    _check_replaceable_demo()
    print(f"Drawing the demo people (seed {args.seed}) ...", flush=True)
    started = time.perf_counter()
    dataset = load_demo_dataset(
        name=DEMO_DATASET,
        seed=args.seed,
        identities=args.identities,
        overwrite=True,
        persistent=True,
    )
    print(f"Explaining the neighbors of {len(dataset)} images ...", flush=True)
    run = explain_retrieval(
        dataset,
        load_model("demo"),
        key="sfam",
        k=5,
        protocol=Protocol(identity_field="identity", camera_field="camera"),
        overwrite=True,
    )
    _show_heatmaps(dataset, run.key)
    _print_summary(dataset.name, run.key, run.summary(), started)
    if args.app:
        _install_when_absent(fo.config.plugins_dir)
        _serve(dataset, args.port, args.address)


def _show_heatmaps(dataset: fo.Dataset, key: str) -> None:
    """Make a run's heatmaps what the App shows when the dataset is opened."""
    import fiftyone as fo

    paths = [key, "identity", f"{key}_score"]
    dataset.app_config.active_fields = fo.ActiveFields(paths=paths)
    dataset.save()


def _run_explain(args: argparse.Namespace) -> None:
    dataset = load_dataset(args.dataset)

    from fiftyone_sfam.data.protocol import Protocol
    from fiftyone_sfam.pipeline.explain import explain_retrieval

    protocol = Protocol(
        identity_field=args.identity_field,
        camera_field=args.camera_field,
        split_field=args.split_field,
        query_value=args.query_value,
        gallery_value=args.gallery_value,
        junk=tuple(args.junk),
        distractors=tuple(args.distractors),
        exclude_duplicates=args.exclude_duplicates,
    )
    started = time.perf_counter()
    with warnings.catch_warnings():
        # The summary ends with them.
        warnings.simplefilter("ignore", SfamWarning)
        run = explain_retrieval(
            dataset,
            args.model,
            key=args.key,
            k=args.k,
            protocol=protocol,
            patches_field=args.patches_field,
            embeddings=args.embeddings,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            neighbors=args.neighbors,
            engine=args.engine,
            engine_options=_engine_options(args),
            overwrite=args.overwrite,
        )
    _print_summary(dataset.name, run.key, run.summary(), started)


def _run_runs(args: argparse.Namespace) -> None:
    dataset = load_dataset(args.dataset)

    from fiftyone_sfam.pipeline.manage import delete_run, rename_run
    from fiftyone_sfam.runs.run import list_runs

    if args.delete is not None:
        delete_run(dataset, args.delete)
        print(f"Deleted the run '{args.delete}'.")
    elif args.rename is not None:
        old, new = args.rename
        rename_run(dataset, old, new)
        print(f"Renamed the run '{old}' to '{new}'.")
    else:
        keys = list_runs(dataset)
        print("\n".join(keys) if keys else f"'{dataset.name}' has no runs.")


def _run_install(args: argparse.Namespace) -> None:
    from fiftyone_sfam.app.install import install_plugin

    folder = args.plugins_dir
    if folder is None:
        import fiftyone as fo

        folder = fo.config.plugins_dir
    print(install_plugin(folder, copy=args.copy))


def _check_replaceable_demo() -> None:
    import fiftyone as fo

    if (
        fo.dataset_exists(DEMO_DATASET)
        and "sfam_demo" not in fo.load_dataset(DEMO_DATASET).info
    ):
        raise DataError(
            f"The dataset '{DEMO_DATASET}' exists and is not the demo's: rename it, "
            "for the demo needs that name."
        )


def _install_when_absent(plugins_dir: str) -> None:
    import fiftyone.plugins as fop

    from fiftyone_sfam.app.install import PLUGIN_NAME, install_plugin

    # One that the user has disabled or downloaded is there, and stays as it is.
    names = {plugin.name for plugin in fop.list_plugins(enabled="all")}
    if PLUGIN_NAME not in names:
        print(install_plugin(plugins_dir))


def _serve(dataset: fo.Dataset, port: int | None, address: str | None) -> None:
    import fiftyone as fo

    # By value, a heatmap is drawn in colors; FiftyOne's default is one hue per field.
    config = fo.app_config.copy()
    config.color_by, config.colorscale = "value", "viridis"
    session = fo.launch_app(
        dataset, port=port, address=address, remote=True, config=config
    )
    url = f"{session.url.rstrip('/')}/datasets/{dataset.name}"
    print(f"\nThe App is at {url}\nPress Ctrl-C to end.", flush=True)
    session.wait(-1)


def _print_summary(
    dataset: str, key: str, summary: Mapping[str, Any], started: float
) -> None:
    seconds = time.perf_counter() - started
    lines = {"dataset": dataset, "run": key, **summary, "seconds": seconds}
    texts = lines.pop("warnings")
    width = max(len(name) for name in lines)
    for name, value in lines.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"{name.replace('_', ' '):<{width}}  {text}")
    for text in texts:
        print(f"warning: {text}")
    sys.stdout.flush()
