"""What the form of a run asks for, with defaults and bounds, and what it means.

The SDK does not fill in a form's defaults, so operators read their parameters here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fiftyone_sfam.app.forms.parameters import (
    MAX_TEXT,
    checked_whole,
    is_text,
    shown_value,
)
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError

MAX_K = 1000
MAX_BATCH_SIZE = 1024

COMPUTE, INDEX, FIELD = "compute", "index", "field"

_CHOICES = {
    "kind": ("sfam", "evidence"),
    "weights": ("signed", "minmax"),
    "embeddings_from": (COMPUTE, INDEX, FIELD),
}


@dataclass(frozen=True)
class RunSettings:
    """Parameters of the operator ``explain_retrieval``."""

    model: str | None = None  # name of a registered model
    key: str = "sfam"  # key of the run
    k: int = 5  # neighbors per query, 1 to :data:`MAX_K`
    kind: str = "sfam"  # map that is shown as the heatmap field
    weights: str = "signed"  # channel weights of the sfam map
    patches_field: str | None = None  # detections to compare
    embeddings_from: str = COMPUTE  # where embeddings come from
    brain_key: str | None = None  # similarity index or field that holds them
    embeddings_field: str | None = None  # similarity index or field that holds them
    keep_index: str | None = None  # brain key under which computed embeddings are kept
    identity_field: str | None = None  # fields of the protocol
    camera_field: str | None = None  # fields of the protocol
    split_field: str | None = None  # fields of the protocol
    query_value: str = "query"  # values of the split field
    gallery_value: str = "gallery"  # values of the split field
    exclude_same_camera: bool = True  # rules of the protocol
    exclude_duplicates: bool = False  # rules of the protocol
    junk: str = ""  # identities, separated by commas
    distractors: str = ""  # identities, separated by commas
    batch_size: int = 32  # images per forward pass, 1 to :data:`MAX_BATCH_SIZE`
    overwrite: bool = False  # replace an existing run

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> RunSettings:
        """Read the parameters of an operator; missing ones have their default."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = params.get(field.name)
            if value is None or value == "":
                continue
            values[field.name] = _checked(field.name, value, field.default)
        return cls(**values)

    def protocol(self) -> Protocol:
        """Return the rules of the retrieval."""
        return Protocol(
            identity_field=self.identity_field,
            camera_field=self.camera_field,
            exclude_same_camera=self.exclude_same_camera,
            junk=_listed(self.junk),
            distractors=_listed(self.distractors),
            split_field=self.split_field,
            query_value=self.query_value,
            gallery_value=self.gallery_value,
            exclude_duplicates=self.exclude_duplicates,
        )

    def embeddings(self) -> str | None:
        """Return the brain key or field that embeddings come from."""
        if self.embeddings_from == COMPUTE:
            return None
        chosen = (
            self.brain_key if self.embeddings_from == INDEX else self.embeddings_field
        )
        if chosen is None:
            what = "similarity index" if self.embeddings_from == INDEX else "field"
            raise DataError(f"choose the {what} that holds the embeddings.")
        return chosen

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of ``explain_retrieval``, but for the model."""
        kinds = [self.kind, *(one for one in ("sfam", "evidence") if one != self.kind)]
        return {
            "key": self.key,
            "k": self.k,
            "protocol": self.protocol(),
            "patches_field": self.patches_field,
            "embeddings": self.embeddings(),
            "keep_index": self.keep_index if self.embeddings_from == COMPUTE else None,
            "kinds": kinds,
            "weights": self.weights,
            "batch_size": self.batch_size,
            "overwrite": self.overwrite,
        }


def _checked(name: str, value: Any, default: Any) -> Any:
    """Check a parameter's type and bounds."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise DataError(f"{name} is {shown_value(value)}; true or false is needed.")
        return value
    if isinstance(default, int):
        return checked_whole(name, value, 1, MAX_K if name == "k" else MAX_BATCH_SIZE)
    if not is_text(value):
        raise DataError(f"{name} has to be a text of at most {MAX_TEXT} characters.")
    if value not in _CHOICES.get(name, (value,)):
        raise DataError(
            f"{name} is {shown_value(value)}; use one of {', '.join(_CHOICES[name])}."
        )
    return value


def _listed(text: str) -> tuple[str, ...]:
    """Split identities at commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
