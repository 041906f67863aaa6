"""The operator that writes the report of a run.

Where it writes is for the owner of the server to say, not for the form: into a folder
of the run's own below ``FIFTYONE_SFAM_REPORTS``.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run, list_runs, load_run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 200_000
"""Pairs from which a report is delegated unless the user says otherwise."""

REPORTS = "FIFTYONE_SFAM_REPORTS"
"""Environment variable that names the folder of all reports."""

MAX_DOWNLOAD = 32 * 2**20
"""Most bytes of a page that is sent to the browser."""

# Characters of a name that become part of a folder's.
_NAME = 40


class WriteReport(foo.Operator):
    """Writes what is known about a run: a page, tables, and corrections of labels."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="write_report",
            label="SFAM: write report",
            description="A page about a run that opens anywhere, and its tables",
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_execution_options(
        self, ctx: foo.ExecutionContext
    ) -> foo.ExecutionOptions:
        """Delegate large runs by default."""
        run = _chosen_run(ctx)
        return foo.ExecutionOptions(
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            default_choice_to_delegated=run is not None
            and run.config.counts["pairs"] >= LARGE,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        check_types(ctx.params)
        inputs = types.Object()
        view = types.View(label="Write a run's report")
        keys = list_runs(ctx.dataset)
        if not keys:
            return choices.without_runs(view)
        run = _chosen_run(ctx)
        choices.add_choice(
            inputs,
            "key",
            choices.run_choices(ctx.dataset),
            label="Run",
            default=keys[0],
            required=True,
            error=None if run is not None else "there is no such run; choose another.",
        )
        inputs.bool(
            "images",
            label="With pictures",
            description="Of the findings' pairs, with their maps; without them the "
            "page holds identities and file names, but nobody's image",
            default=False,
        )
        if run is not None:
            inputs.view("state", types.Notice(label=_state(run)))
        return types.Property(inputs, view=view)

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Write; see :func:`fiftyone_sfam.audit.report.write.write_report`."""
        from fiftyone_sfam.audit.report.write import write_report

        check_types(ctx.params, numbers=False)
        run = load_run(ctx.dataset, str(ctx.params.get("key")))
        folder = report_folder(run)
        try:
            files = write_report(
                run,
                folder,
                images=ctx.params.get("images") is True,
                overwrite=True,
            )
        except DataError as error:
            # Where the folder of all reports is, is the owner's to know.
            raise DataError(str(error).replace(str(folder), folder.name)) from None
        size = files.page.stat().st_size
        # A delegated operation has no browser to send the page to.
        download = not ctx.delegated and size <= MAX_DOWNLOAD
        if download:
            encoded = base64.b64encode(files.page.read_bytes()).decode()
            ctx.ops.browser_download(
                f"data:text/html;base64,{encoded}", filename=f"{folder.name}.html"
            )
        return {
            "key": run.key,
            "folder": folder.name,
            "files": ", ".join(path.name for path in files.paths()),
            "megabytes": round(size / 2**20, 1),
            "downloaded": download,
        }

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        outputs.str("key", label="Run")
        outputs.str("folder", label="Folder, in the server's folder of reports")
        outputs.str("files", label="Files")
        outputs.float("megabytes", label="Size of the page, in megabytes")
        outputs.bool("downloaded", label="The page was sent to this browser")
        return types.Property(outputs, view=types.View(label="Report written"))

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        images: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {"key": key, "images": images}
        return call_operator(self, sample_collection, params, delegate)


def reports_folder() -> Path:
    """Return the folder of all reports that operators write."""
    named = os.environ.get(REPORTS)
    if named:
        return Path(named).expanduser()
    return Path(fo.config.default_dataset_dir).expanduser() / "sfam-reports"


def report_folder(run: Run) -> Path:
    """Return the folder of a run's report."""
    unique = f"{run.dataset._doc.id}/{run.key}"
    digest = hashlib.sha256(unique.encode()).hexdigest()[:8]
    parts = [_simple(run.dataset.name), _simple(run.key), digest]
    return reports_folder() / "-".join(parts)


def _simple(name: str) -> str:
    """Return what of a name can be part of a file's on any system."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:_NAME].strip("-") or "unnamed"


def _chosen_run(ctx: foo.ExecutionContext) -> Run | None:
    """Load the run of the form; None if there is none."""
    keys = list_runs(ctx.dataset)
    key = ctx.params.get("key") or next(iter(keys), None)
    return load_run(ctx.dataset, key) if key in keys else None


_PARTS = {
    "evaluation": "the evaluation (SFAM: evaluate retrieval)",
    "suspects": "suspects (SFAM: find suspects)",
    "regions": "regions (SFAM: explain regions)",
}


def _state(run: Run) -> str:
    """Say what a report would hold."""
    there = run.results.names()
    missing = [text for name, text in _PARTS.items() if name not in there]
    text = "An earlier report of this run is replaced."
    if missing:
        text += f" Not computed yet, and so not in it: {', '.join(missing)}."
    return text
