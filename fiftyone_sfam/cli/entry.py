"""The console script ``fiftyone-sfam``, and its commands ``demo | install``.

Arguments are parsed, and checked as far as possible, before FiftyOne or torch are
imported, so that ``--help`` and mistakes answer immediately.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fiftyone_sfam._version import __version__
from fiftyone_sfam.cli import (
    audit,
    compare,
    faithfulness,
    layouts,
    leaks,
    pairs,
    runs,
    verdicts,
)
from fiftyone_sfam.cli.support import add_command, add_number, with_options
from fiftyone_sfam.errors import DataError, SfamError

if TYPE_CHECKING:
    import fiftyone as fo

DEMO_DATASET = "sfam-demo"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    args = _parser().parse_args(argv)
    try:
        text = args.run(args)
    except SfamError as error:
        message = with_options(str(error), args.parser)
        print(f"fiftyone-sfam: {message}", file=sys.stderr)
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
    layouts.add_commands(commands)
    runs.add_commands(commands)
    pairs.add_commands(commands)
    audit.add_commands(commands)
    compare.add_commands(commands)
    leaks.add_commands(commands)
    faithfulness.add_commands(commands)
    verdicts.add_commands(commands)
    _add_install(commands)
    return parser


# --------------------------------------------------------------------------------------
# demo
# --------------------------------------------------------------------------------------


def _add_demo(commands: Any) -> None:
    parser = add_command(
        commands,
        "demo",
        _demo,
        help="explain the built-in demo people and open them in the App",
        description="Draw the demo people, explain their retrieval with the demo "
        "network, print a summary, and serve the App until interrupted.",
    )
    parser.add_argument(
        "--app",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether to serve the App after the summary (default: yes)",
    )
    add_number(parser, "--seed", 51, "random seed of the demo people", low=0)
    add_number(parser, "--identities", 40, "number of demo people")
    add_number(
        parser,
        "--port",
        None,
        "port of the App (default: FiftyOne's default port)",
        high=65535,
    )
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="address that the App listens on (default: %(default)s)",
    )


def _demo(args: argparse.Namespace) -> str:
    import fiftyone as fo

    if (
        fo.dataset_exists(DEMO_DATASET)
        and "sfam_demo" not in fo.load_dataset(DEMO_DATASET).info
    ):
        raise DataError(
            f"The dataset '{DEMO_DATASET}' exists, but is not the demo's, which needs "
            "this name: rename your dataset."
        )

    from fiftyone_sfam.data.protocol import Protocol
    from fiftyone_sfam.demo.dataset import load_demo_dataset
    from fiftyone_sfam.pipeline.explain import explain_retrieval

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
        "demo",
        protocol=Protocol(identity_field="identity", camera_field="camera"),
        overwrite=True,
    )
    # The App shows these fields when the dataset is opened.
    paths = [run.key, "identity", f"{run.key}_score"]
    dataset.app_config.active_fields = fo.ActiveFields(paths=paths)
    dataset.save()
    summary = runs.summary(run, started)
    if not args.app:
        return summary
    print(summary, flush=True)
    _install_if_absent(fo.config.plugins_dir)
    _serve(dataset, args.port, args.address)
    return ""


def _install_if_absent(plugins_dir: str) -> None:
    import fiftyone.plugins as fop

    from fiftyone_sfam.app.install import PLUGIN_NAME, install_plugin

    # A plugin that the user has downloaded or disabled stays as it is.
    names = {plugin.name for plugin in fop.list_plugins(enabled="all")}
    if PLUGIN_NAME not in names:
        print(install_plugin(plugins_dir))


def _serve(dataset: fo.Dataset, port: int | None, address: str) -> None:
    import fiftyone as fo

    # Colored by value, a heatmap has a color scale; the default is one hue per field.
    config = fo.app_config.copy()
    config.color_by, config.colorscale = "value", "viridis"
    session = fo.launch_app(
        dataset, port=port, address=address, remote=True, config=config
    )
    url = f"{session.url.rstrip('/')}/datasets/{dataset.name}"
    print(f"\nThe App is at {url}\nPress Ctrl-C to end.", flush=True)
    session.wait(-1)


# --------------------------------------------------------------------------------------
# install
# --------------------------------------------------------------------------------------


def _add_install(commands: Any) -> None:
    parser = add_command(
        commands,
        "install",
        _install,
        help="install the plugin in FiftyOne's plugins folder",
        description="Install the plugin in FiftyOne's plugins folder: as a link to a "
        "checkout of the repository, or as a small folder that imports the package.",
    )
    parser.add_argument(
        "--plugins-dir",
        metavar="DIR",
        help="plugins folder (default: FiftyOne's plugins folder)",
    )
    parser.add_argument(
        "--copy", action="store_true", help="write a folder, never a link"
    )


def _install(args: argparse.Namespace) -> str:
    from fiftyone_sfam.app.install import install_plugin

    folder = args.plugins_dir
    if folder is None:
        import fiftyone as fo

        folder = fo.config.plugins_dir
    return str(install_plugin(folder, copy=args.copy))
