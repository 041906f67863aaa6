"""Drop-down lists of an operator's form: models, runs, fields by their type."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.errors import ModelError, SfamError
from fiftyone_sfam.models import list_models
from fiftyone_sfam.models.registry import registry_path
from fiftyone_sfam.runs.run import list_runs
from fiftyone_sfam.runs.run_config import METHOD

_LOG = logging.getLogger("fiftyone_sfam")

# An absolute path's folders, as they begin on either kind of system. What is one
# without an end of its own, as a name with spaces, is cut as far as it can be told.
_FOLDERS = re.compile(
    r"(?:file:/{2,3}|(?<![\w.:/\\-])(?:[A-Za-z]:[\\/]|[\\/]{1,2}|~/))"
    r"(?:[^\\/'\"<>|:*?\n]*?[^\\/\s'\"<>|:*?~][\\/])+(?=[^\\/\s])"
)

Operator = TypeVar("Operator", bound=foo.Operator)
Execute = Callable[[Operator, foo.ExecutionContext], dict[str, Any]]


def for_user(message: object) -> str:
    """Cut the folders off all absolute paths in a message."""
    text = str(message)
    # Folders that are known are cut whatever they are called.
    for folder in (registry_path().parent, Path.home()):
        for separator in ("/", "\\"):
            text = text.replace(f"{folder}{separator}", "")
    return _FOLDERS.sub("", text)


def for_users(execute: Execute[Operator]) -> Execute[Operator]:
    """Make an operator's ``execute`` fail with messages that users may read."""

    @wraps(execute)
    def executed(self: Operator, ctx: foo.ExecutionContext) -> dict[str, Any]:
        try:
            return execute(self, ctx)
        except SfamError as error:
            shown = for_user(error)
            if shown == str(error):
                raise
            _LOG.warning("%s: %s", self.config.name, error)
            # FiftyOne sends the traceback to the App, with all that it came from.
            raise type(error)(shown) from None

    return executed


def show_warnings(outputs: types.Object, results: Mapping[str, Any]) -> None:
    """Add the ``warnings`` of an operator's result to what it shows."""
    for number, text in enumerate(results.get("warnings") or ()):
        outputs.view(f"warning_{number}", types.Warning(label=text))


def add_choice(
    inputs: types.Object,
    name: str,
    choices: Iterable[tuple[str, str]],
    *,
    label: str,
    description: str | None = None,
    default: str | None = None,
    required: bool = False,
    error: str | None = None,
) -> types.Property:
    """Add a drop-down list to a form."""
    view = types.AutocompleteView(allow_user_input=False)
    values = []
    for value, shown in choices:
        view.add_choice(value, label=shown)
        values.append(value)
    found = inputs.enum(
        name,
        values,
        label=label,
        description=description,
        default=default,
        required=required,
        view=view,
    )
    return mark(found, error)


def mark(prop: types.Property, error: str | None) -> types.Property:
    """Show what is wrong beside a field of a form, and keep it from being submitted."""
    if error is not None:
        prop.invalid = True
        prop.error_message = error
    return prop


def model_choices() -> tuple[list[tuple[str, str]], str | None]:
    """List the models by name, the owner's own first."""
    try:
        models = list_models()
    except ModelError as error:
        return [], for_user(error)
    return [
        (
            info.name,
            f"{info.name} ({info.description or info.source})"
            if info.source != "zoo"
            else f"{info.name} (zoo)",
        )
        for info in models
    ], None


def without_runs(view: types.View) -> types.Property:
    """Return the form of a dataset without runs, which says what to do."""
    inputs = types.Object()
    inputs.view(
        "none",
        types.Warning(
            label="No runs yet",
            description="Make one with the operator 'SFAM: explain retrieval'.",
        ),
    )
    return mark(types.Property(inputs, view=view), "there are no runs.")


def run_choices(
    dataset: fo.Dataset, interrupted: bool = False
) -> list[tuple[str, str]]:
    """List the finished runs of a dataset, and those that were interrupted if asked."""
    finished = [(key, key) for key in list_runs(dataset)]
    if not interrupted:
        return finished
    known = dict(finished)
    return finished + [
        (key, f"{key} (interrupted)")
        for key in dataset.list_runs(method=METHOD)
        if key not in known
    ]


def label_fields(dataset: fo.Dataset, prefix: str = "") -> list[str]:
    """List the fields that can hold identities or cameras."""

    def fits(field: fo.Field) -> bool:
        if isinstance(field, (fo.StringField, fo.IntField, fo.BooleanField)):
            return True
        return getattr(field, "document_type", None) in (
            fo.Classification,
            fo.Detection,
        )

    return _fields(dataset, prefix, fits)


def vector_fields(dataset: fo.Dataset, prefix: str = "") -> list[str]:
    """List the fields that can hold embeddings."""
    return _fields(
        dataset,
        prefix,
        lambda field: isinstance(field, (fo.VectorField, fo.ArrayField, fo.ListField)),
    )


def detection_fields(dataset: fo.Dataset) -> list[str]:
    """List the fields with detections."""
    return _fields(
        dataset,
        "",
        lambda field: (
            getattr(field, "document_type", None) in (fo.Detections, fo.Detection)
        ),
    )


def patches_prefix(dataset: fo.Dataset, patches_field: str) -> str:
    """Return the path below which the attributes of detections lie."""
    field = dataset.get_field(patches_field)
    listed = getattr(field, "document_type", None) is fo.Detections
    return f"{patches_field}.detections." if listed else f"{patches_field}."


def _fields(dataset: fo.Dataset, prefix: str, fits: Callable[[Any], bool]) -> list[str]:
    """List the fields below a path that fit, without FiftyOne's own."""
    if prefix:
        holder = dataset.get_field(prefix.rstrip("."))
        while isinstance(holder, fo.ListField):
            holder = holder.field
        schema = holder.get_field_schema() if holder is not None else {}
    else:
        schema = dataset.get_field_schema()
    own = {"id", "filepath", "tags", "metadata", "_media_type", "_rand"}
    own |= {"created_at", "last_modified_at"}
    if prefix:
        own |= {"bounding_box", "mask", "mask_path", "index", "confidence"}
    return [name for name, field in schema.items() if name not in own and fits(field)]
