"""The rules of retrieval: who is a query, who is in the gallery, who is left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from fiftyone_sfam.errors import DataError


@dataclass(frozen=True)
class Protocol:
    """Rules of a retrieval run, in the terms of re-identification.

    The default compares every image with every other one. For Market-1501's protocol
    give ``identity_field``, ``camera_field``, ``junk=("-1",)`` and
    ``distractors=("0000",)``, or ``("0",)`` where identities are stored as integers:
    values are compared as text. A run refuses values that occur in no image.

    Attributes
    ----------
    identity_field : str, optional
        Field with each image's identity: a string, a number or a classification. With
        detections, an attribute of theirs or else a field of the sample.
    camera_field : str, optional
        Field with each image's camera, likewise.
    exclude_same_camera : bool
        Leave out gallery images of the query's identity from the query's camera. Needs
        ``camera_field``.
    junk : tuple of str
        Identities that are neither queries nor in the gallery.
    distractors : tuple of str
        Identities that are in the gallery, match nobody, and are no queries.
    split_field : str, optional
        Field (or ``tags``) that tells queries from gallery images; None makes every
        image both.
    query_value, gallery_value : str
        Values, or tags, of that field.
    exclude_self : bool
        Leave out the query itself.
    exclude_duplicates : bool
        Leave out gallery images whose embedding is the query's, up to rounding.

    Raises
    ------
    DataError
        If the rules contradict each other.
    """

    identity_field: str | None = None
    camera_field: str | None = None
    exclude_same_camera: bool = True
    junk: tuple[str, ...] = ()
    distractors: tuple[str, ...] = ()
    split_field: str | None = None
    query_value: str = "query"
    gallery_value: str = "gallery"
    exclude_self: bool = True
    exclude_duplicates: bool = False

    def __post_init__(self) -> None:
        for name in ("junk", "distractors"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise DataError(
                    f"{name} is the text {value!r}; give a list of identities."
                )
            object.__setattr__(self, name, tuple(str(item) for item in value))
        for name in ("query_value", "gallery_value"):
            object.__setattr__(self, name, str(getattr(self, name)))
        if (self.junk or self.distractors) and self.identity_field is None:
            raise DataError(
                "junk and distractor identities need identity_field to be given."
            )
        both = sorted(set(self.junk) & set(self.distractors))
        if both:
            raise DataError(
                f"identity '{both[0]}' is both junk and a distractor; choose one."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the rules as plain data, for a run's config."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, rules: dict[str, Any]) -> Protocol:
        """Restore the rules from :meth:`to_dict`.

        Raises
        ------
        DataError
            If a rule is unknown.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(rules) - known)
        if unknown:
            raise DataError(
                f"unknown protocol rule {unknown[0]!r}; known are "
                f"{', '.join(sorted(known))}."
            )
        return cls(**rules)
