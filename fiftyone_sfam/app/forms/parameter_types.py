"""Types of what the operators' forms ask for.

The App keeps to a form's types; a request that is made by hand does not. Bounds are
checked where a parameter is read, see :mod:`fiftyone_sfam.app.forms.parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiftyone_sfam.app.forms.parameters import MAX_TEXT, is_number, is_text
from fiftyone_sfam.errors import DataError

MAX_ENTRIES = 1000
"""Most entries of a list."""

_TEXTS = frozenset(
    (
        *("action", "brain_key", "camera_field", "cameras", "change", "distractors"),
        *("embeddings_field", "embeddings_from", "field", "fill", "gallery_value"),
        *("identity_field", "junk", "keep_index", "key", "kind", "model", "new_key"),
        *("outcome", "patches_field", "query_value", "region", "region_field"),
        *("show", "side", "split_field", "undo_field", "weights"),
    )
)
_LISTS = frozenset(("by", "kinds", "pair_slices", "slices"))
_NUMBERS = frozenset(("max_similarity", "min_score", "min_similarity"))
_FLAGS = frozenset(
    (
        *("causal", "exclude_duplicates", "exclude_same_camera", "images", "layers"),
        *("overwrite", "shortcuts"),
    )
)
_WHOLE = frozenset(
    (
        *("batch_size", "k", "limit", "max_rank", "pairs", "resamples", "seed"),
        "stripes",
    )
)


def check_types(params: Mapping[str, Any], numbers: bool = True) -> None:
    """Refuse parameters of another type than a form gives them."""
    for name, value in params.items():
        if value is None or value == "":
            continue
        if name in _TEXTS and not is_text(value):
            raise DataError(
                f"{name} has to be a text of at most {MAX_TEXT} characters."
            )
        if name in _LISTS and not _is_listed(value):
            raise DataError(
                f"{name} has to be a list of at most {MAX_ENTRIES} texts of at most "
                f"{MAX_TEXT} characters."
            )
        if name in _FLAGS and not isinstance(value, bool):
            raise DataError(f"{name} is {value!r}; true or false is needed.")
        # NaN is not equal to itself.
        number = is_number(value) and value == value
        if numbers and name in _NUMBERS | _WHOLE and not number:
            raise DataError(f"{name} has to be a number.")


def _is_listed(value: Any) -> bool:
    entries = [value] if isinstance(value, str) else value
    return (
        isinstance(entries, (list, tuple))
        and len(entries) <= MAX_ENTRIES
        and all(map(is_text, entries))
    )
