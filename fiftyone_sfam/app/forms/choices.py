"""Fields of the operators' forms, and messages that users may read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
from fiftyone.operators import types

from fiftyone_sfam.errors import ModelError, SfamError
from fiftyone_sfam.models import list_models
from fiftyone_sfam.models.registry import registry_path
from fiftyone_sfam.runs.run import Run

# The folders of an absolute path on POSIX or Windows. Where nothing marks the end of a
# path, as with a name that contains spaces, the cut is only as good as this pattern.
_FOLDERS = re.compile(
    r"(?:file:/{2,3}|(?<![\w.:/\\-])(?:[A-Za-z]:[\\/]|[\\/]{1,2}|~/))"
    r"(?:[^\\/'\"<>|:*?\n]*?[^\\/\s'\"<>|:*?~][\\/])+(?=[^\\/\s])"
)


def for_user(message: object) -> str:
    """Cut the folders off all absolute paths in a message."""
    text = str(message)
    # These folders are known, so they are cut whatever characters they contain.
    for folder in (registry_path().parent, Path.home()):
        for separator in ("/", "\\"):
            text = text.replace(f"{folder}{separator}", "")
    return _FOLDERS.sub("", text)


def problem_of(check: Callable[..., object], *args: Any) -> str | None:
    """Return the message of the error that a check raises; None if it raises none."""
    try:
        check(*args)
    except SfamError as error:
        return for_user(error)
    return None


def mark(prop: types.Property, problem: str | None) -> None:
    """Show a problem next to a field, which keeps the form from being submitted."""
    if problem is not None:
        prop.invalid = True
        prop.error_message = problem


def add_choice(
    inputs: types.Object,
    name: str,
    choices: Iterable[str | tuple[str, str]],
    *,
    label: str,
    description: str | None = None,
    default: str | None = None,
    required: bool = False,
    problem: str | None = None,
) -> None:
    """Add a drop-down list of values, or of pairs of a value and its label."""
    view = types.AutocompleteView(allow_user_input=False)
    values = []
    for choice in choices:
        value, shown = (choice, choice) if isinstance(choice, str) else choice
        view.add_choice(value, label=shown)
        values.append(value)
    field = inputs.enum(
        name,
        values,
        label=label,
        description=description,
        default=default,
        required=required,
        view=view,
    )
    mark(field, problem)


def add_list(
    inputs: types.Object,
    name: str,
    values: Iterable[str],
    given: Sequence[str],
    *,
    label: str,
    description: str,
    problem: str,
) -> None:
    """Add a choice of several values; a given value must be one of them."""
    view = types.AutocompleteView(allow_user_input=False, allow_duplicates=False)
    for value in values:
        view.add_choice(value, label=value)
    field = inputs.list(
        name, types.String(), label=label, description=description, view=view
    )
    unknown = [value for value in given if value not in view.values()]
    if unknown:
        mark(field, f"'{unknown[0]}' {problem}")


def add_rates(inputs: types.Object, default: Sequence[float]) -> None:
    """Add false accept rates, as a text."""
    inputs.str(
        "fars",
        label="False accept rates",
        description="Rates to find thresholds for; separate by commas",
        default=", ".join(f"{far:g}" for far in default),
    )


def add_estimate(inputs: types.Object, text: str, large: bool) -> None:
    """Add a notice about the size of an operation."""
    if large:
        text += " This is large: better delegated."
    inputs.view("estimate", types.Notice(label=text))


def add_run_model(inputs: types.Object, run: Run, given: str | None) -> None:
    """Add the choice of the model that a run was made with."""
    models, problem = model_choices()
    names = [name for name, _ in models]
    model = given or run.config.model
    if problem is None and model not in names:
        problem = (
            f"the run's model '{model}' is not registered on this machine; register "
            "it, or choose the name under which it is registered."
        )
    add_choice(
        inputs,
        "model",
        models,
        label="Model",
        description="The model that made the run",
        default=run.config.model if run.config.model in names else None,
        problem=problem,
    )


def model_choices() -> tuple[list[tuple[str, str]], str | None]:
    """List the models, the registered ones first, or say why there are none."""
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


def label_fields(dataset: fo.Dataset, prefix: str = "") -> list[str]:
    """List the fields that can hold identities or cameras."""
    simple = (fo.StringField, fo.IntField, fo.BooleanField)
    documents = (fo.Classification, fo.Detection)
    return [
        name
        for name, field in _fields(dataset, prefix).items()
        if isinstance(field, simple) or _document(field) in documents
    ]


def rule_fields(dataset: fo.Dataset, prefix: str = "") -> list[str]:
    """List the fields that the rules of a protocol can name."""
    dates = (fo.FloatField, fo.DateField, fo.DateTimeField)
    fields = _fields(dataset, prefix).items()
    labels = label_fields(dataset, prefix)
    times = [] if prefix else ["created_at", "last_modified_at"]
    others = [name for name, field in fields if isinstance(field, dates)]
    return [*labels, *others, *times]


def boolean_fields(dataset: fo.Dataset, prefix: str = "") -> list[str]:
    """List the fields that can tell queries and gallery images apart."""
    fields = _fields(dataset, prefix).items()
    return [name for name, field in fields if isinstance(field, fo.BooleanField)]


def vector_fields(dataset: fo.Dataset, prefix: str = "") -> list[str]:
    """List the fields that can hold embeddings."""
    kinds = (fo.VectorField, fo.ArrayField, fo.ListField)
    fields = _fields(dataset, prefix).items()
    return [name for name, field in fields if isinstance(field, kinds)]


def detection_fields(dataset: fo.Dataset) -> list[str]:
    """List the fields that hold detections."""
    documents = (fo.Detections, fo.Detection)
    fields = _fields(dataset).items()
    return [name for name, field in fields if _document(field) in documents]


def patches_prefix(dataset: fo.Dataset, patches_field: str) -> str:
    """Return the path below which the attributes of detections lie."""
    listed = _document(dataset.get_field(patches_field)) is fo.Detections
    return f"{patches_field}.detections." if listed else f"{patches_field}."


def _document(field: fo.Field) -> type | None:
    return getattr(field, "document_type", None)


def _fields(dataset: fo.Dataset, prefix: str = "") -> dict[str, fo.Field]:
    """Return the fields below a path by name, without those that FiftyOne manages."""
    managed = {"id", "filepath", "tags", "metadata", "_media_type", "_rand"}
    managed |= {"created_at", "last_modified_at"}
    if not prefix:
        schema = dataset.get_field_schema()
    else:
        managed |= {"bounding_box", "mask", "mask_path", "index", "confidence"}
        parent = dataset.get_field(prefix.rstrip("."))
        while isinstance(parent, fo.ListField):
            parent = parent.field
        schema = {} if parent is None else parent.get_field_schema()
    return {name: field for name, field in schema.items() if name not in managed}
