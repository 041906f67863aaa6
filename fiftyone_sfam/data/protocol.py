"""The rules of a retrieval: queries, gallery, and the pairs that are left out."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, fields
from typing import Any

from fiftyone_sfam.errors import DataError


@dataclass(frozen=True)
class Protocol:
    """Rules of a retrieval run, in the terms of re-identification.

    By default every image is compared with every other image. All rules except
    ``identity_field`` are keyword-only. A run raises an error if ``junk``,
    ``distractors``, ``query_value`` or ``gallery_value`` names a value that no image
    has.

    Attributes
    ----------
    identity_field : str, optional
        Field with each image's identity: a string, a number or a classification. For
        detections, one of their attributes, or else a field of the sample.
    camera_field : str, optional
        Field with each image's camera, of the same kinds.
    exclude_same_camera : bool
        Leave out gallery images of the query's identity from the query's camera. Has no
        effect without ``camera_field``.
    junk : sequence of str or int
        Identities whose images are left out completely, both as queries and from the
        gallery. Market-1501 marks bad detections with the identity -1:
        ``junk=("-1",)``. Stored as a tuple of strings, because values are compared as
        text.
    distractors : sequence of str or int
        Identities whose images are in the gallery, but match no query and are not
        queries. Market-1501: ``distractors=("0000",)``, or ``("0",)`` if the identities
        are stored as integers. Stored like ``junk``.
    split_field : str, optional
        Field (or ``tags``) that separates queries from gallery images. None makes every
        image both.
    query_value, gallery_value : str
        Values of that field, or tags, of queries and gallery images.
    exclude_self : bool
        Leave out the query itself.
    exclude_duplicates : bool
        Leave out gallery images whose embedding equals the query's, up to rounding.

    Raises
    ------
    DataError
        If the rules contradict each other.

    Examples
    --------
    The rules of Market-1501:

    >>> from fiftyone_sfam import Protocol
    >>> rules = Protocol(
    ...     "identity", camera_field="camera", junk=[-1], distractors=["0000"]
    ... )
    >>> rules.junk
    ('-1',)
    >>> Protocol.from_dict(rules.to_dict()) == rules
    True
    """

    identity_field: str | None = None
    _: KW_ONLY
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
        """Return the rules as a JSON-compatible dictionary.

        Returns
        -------
        dict
            Rules by name.
        """
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, rules: dict[str, Any]) -> Protocol:
        """Restore the rules from :meth:`to_dict`.

        Parameters
        ----------
        rules : dict
            Rules by name; a missing rule has its default value.

        Returns
        -------
        Protocol
            The rules.

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
