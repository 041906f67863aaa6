"""The operator that explains the pairs of a list that a user gives.

The list comes as text: pasted, or as the contents of a file of the browser. It is never
the path of a file on this machine.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import fiftyone.operators as foo
from fiftyone.operators import types
from pydantic import Field

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.making import (
    COMPUTE,
    MakingParameters,
    add_embeddings,
    add_maps,
    add_model,
)
from fiftyone_sfam.app.forms.parameters import Text
from fiftyone_sfam.app.forms.protocol import add_labels
from fiftyone_sfam.app.operators.base import (
    Context,
    Results,
    SfamOperator,
    progress_of,
    shown_fields,
)
from fiftyone_sfam.data.pair_list import COLUMNS, PairList, parse_pairs
from fiftyone_sfam.data.text import counted, shorten
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 2000
"""Images from which a run is delegated unless the user says otherwise."""

MAX_BYTES = 4 * 2**20
"""Most bytes of a list."""

MOST_REASONS = 5
"""Skipped rows of a list that are shown with their reasons."""

# Base64 has four characters for three bytes.
ListText = Annotated[
    str,
    Field(
        max_length=-(-MAX_BYTES // 3) * 4,
        description=f"a list of pairs of at most {MAX_BYTES // 2**20} MiB",
    ),
]


class GivenSettings(MakingParameters):
    """The list of pairs, its labels, the model, and the maps."""

    key: Text = "pairs"
    list_text: ListText = ""
    list_file: ListText = ""  # contents of a file, in base64
    columns: Text = ""  # such as gallery=file2, separated by commas
    identity_field: Text | None = None
    camera_field: Text | None = None
    name_field: Text | None = None

    def listed(self) -> PairList:
        """Return the list of pairs."""
        if self.list_text and self.list_file:
            raise DataError("there are pairs as text and as a file; give one of them.")
        if self.list_file:
            text, origin = _decoded(self.list_file), "the file"
        else:
            text, origin = self.list_text, "the text"
        if "\0" in text:
            raise DataError(f"{origin} has a character that no text has; give text.")
        return parse_pairs(text, self.named_columns() or None, origin)

    def named_columns(self) -> dict[str, str]:
        """Return the columns of the list's head line that have other names."""
        named = {}
        for part in filter(None, map(str.strip, self.columns.split(","))):
            name, _, column = map(str.strip, part.partition("="))
            if name not in COLUMNS or not column:
                raise DataError(
                    f"columns has {shorten(part, 40)!r}; give NAME=COLUMN with a name "
                    f"of {', '.join(COLUMNS)}, separated by commas."
                )
            named[name] = column
        return named


class ExplainPairs(SfamOperator[GivenSettings]):
    """Explains the pairs of a list, and stores the maps."""

    config = foo.OperatorConfig(
        name="explain_pairs",
        label="SFAM: explain given pairs",
        description="Heatmaps of the pairs of a list, instead of nearest neighbors",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = GivenSettings
    form_title = "Explain given pairs with SFAM"
    result_title = "Pairs explained"

    def is_large(self, ctx: Context, params: GivenSettings) -> bool:
        """Return whether the list names many images."""
        try:
            return len(_names(params.listed())) >= LARGE
        except DataError:
            return False

    def add_inputs(
        self, ctx: Context, params: GivenSettings, inputs: types.Object
    ) -> str | None:
        """Add the target, the model, the list, its labels, and the maps."""
        inputs.view_target(ctx, require_flat=True, action_description="Explain")
        add_model(ctx, params, inputs)
        problem = _add_list(params, inputs)
        names = add_labels(
            ctx.dataset,
            params,
            inputs,
            "Shown with the pairs; the queue can be filtered by it",
        )
        choices.add_choice(
            inputs,
            "name_field",
            names,
            label="Field of names",
            description="Field with the list's names of the images; by default names "
            "are ids, or ends of paths",
        )
        add_embeddings(ctx, params, inputs)
        add_maps(params, inputs)
        if problem is None:
            _add_estimate(params, inputs)
        return problem

    def perform(self, ctx: Context, params: GivenSettings) -> Results:
        """Run; see :func:`fiftyone_sfam.explain_pairs`."""
        from fiftyone_sfam.pipeline.explain_pairs import explain_pairs

        run = explain_pairs(
            ctx.target_view(require_flat=True),
            params.known_model(),
            params.listed(),
            identity_field=params.identity_field,
            camera_field=params.camera_field,
            name_field=params.name_field,
            progress=progress_of(ctx, phases=params.phases),
            **params.options(),
        )
        assert run.given is not None
        if not ctx.delegated:
            ctx.ops.reload_dataset()
            ctx.ops.set_active_fields(shown_fields(run))
        reasons = [choices.for_user(line) for line in run.given.skipped(MOST_REASONS)]
        return {"key": run.key, **run.summary(), "reasons": " ".join(reasons)}

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the summary of the run."""
        first = "" if results.get("rank1") is None else " at rank 1"
        outputs.str("key", label="Run")
        outputs.int("rows", label="Rows of the list")
        outputs.int("rows skipped", label="Rows skipped")
        outputs.int("pairs", label="Pairs explained")
        outputs.int("images", label="Images")
        outputs.int("true match", label=f"True matches{first}")
        outputs.int("false match", label=f"False matches{first}")
        for name, label in (("maps", "Maps"), ("chosen", "Chosen")):
            if name in results:
                outputs.str(name, label=label)
        if results.get("reasons"):
            outputs.str("reasons", label="Why rows were skipped")

    def __call__(
        self,
        sample_collection: SampleCollection,
        model: str,
        pairs: str | Sequence[Sequence[Any]],
        *,
        delegate: bool = False,
        **settings: Any,
    ) -> Any:
        """Run the operator from Python; ``pairs`` is the text of a list, or rows."""
        if not isinstance(pairs, str):
            pairs = "\n".join("\t".join(map(str, row)) for row in pairs)
        settings["list_text"] = pairs
        params = GivenSettings.of_call("explain_pairs", model, settings)
        return self.call(sample_collection, params, delegate)


# --------------------------------------------------------------------------------------
# The form
# --------------------------------------------------------------------------------------


def _add_list(params: GivenSettings, inputs: types.Object) -> str | None:
    """Add the list, as text or as a file; return that there is none."""
    text = inputs.str(
        "list_text",
        label="Pairs",
        description="Two images and, if it is known, same or different on each line, "
        "such as a.jpg, b.jpg, same. An image is its id, or the end of its path",
        view=types.TextFieldView(multiline=True, rows=6),
    )
    file = inputs.str(
        "list_file",
        label="Pairs from a file of yours",
        description="CSV, with or without a head line, or LFW's pairs.txt",
        view=types.FileView(max_size=MAX_BYTES, types=".csv,.tsv,.txt"),
    )
    columns = inputs.str(
        "columns",
        label="Columns of the list",
        description="Of a head line with other names, such as query=file1, "
        "gallery=file2, label=genuine; others are fold, rank and score",
    )
    problem = choices.problem_of(params.named_columns)
    choices.mark(columns, problem)
    if not params.list_text and not params.list_file:
        return "there are no pairs; paste some, or choose a file."
    if problem is None:
        problem = choices.problem_of(params.listed)
        choices.mark(file if params.list_file else text, problem)
    return None


def _add_estimate(params: GivenSettings, inputs: types.Object) -> None:
    """Add what the run will cost, if the list can be read."""
    try:
        listed = params.listed()
    except DataError:
        return
    images = len(_names(listed))
    passes = images * (2 if params.embeddings_from == COMPUTE else 1)
    text = (
        f"{counted(len(listed), 'pair')} of {counted(images, 'image')}: up to "
        f"{counted(passes, 'forward pass', 'forward passes')}."
    )
    choices.add_estimate(inputs, text, images >= LARGE)


def _names(listed: PairList) -> set[str]:
    """Return what a list calls its images."""
    return {*listed.query, *listed.gallery}


def _decoded(content: str) -> str:
    """Return the text of a file that a browser has sent."""
    try:
        return base64.b64decode(content, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise DataError(
            "the file is not text in UTF-8; save it as CSV in UTF-8."
        ) from error
