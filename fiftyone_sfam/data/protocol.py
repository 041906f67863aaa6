"""The rules of a retrieval: queries, gallery, and the pairs that are left out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, asdict, dataclass, fields
from typing import Any, TypeAlias

from fiftyone_sfam.data.text import label_text
from fiftyone_sfam.errors import DataError

# Seconds of each unit of a span, the longest first.
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPANNED = re.compile(r"(.+):(\d+(?:\.\d+)?)([dhms])")
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class Within:
    """A term of a rule: two images whose times are at most a span apart.

    Times are those of a field of dates, of dates with times, or of text in ISO 8601.
    A time without a zone is in UTC, and a date is the midnight that begins it.

    Attributes
    ----------
    field : str
        Field of the times.
    seconds : float
        Longest span; ``minutes``, ``hours`` and ``days`` are added to it.

    Raises
    ------
    DataError
        If the span is not positive.

    Examples
    --------
    >>> from fiftyone_sfam import Within
    >>> Within("date", days=1)
    Within(field='date', seconds=86400.0)
    """

    field: str
    _: KW_ONLY
    seconds: float = 0
    minutes: InitVar[float] = 0
    hours: InitVar[float] = 0
    days: InitVar[float] = 0

    def __post_init__(self, minutes: float, hours: float, days: float) -> None:
        parts = (self.seconds, minutes, hours, days)
        if any(isinstance(part, bool) or not _is_number(part) for part in parts):
            raise DataError(f"the span of Within({self.field!r}) is not a number.")
        total = float(self.seconds + 60 * minutes + 3600 * hours + 86400 * days)
        if not 0 < total < math.inf:
            raise DataError(
                f"the span of Within({self.field!r}) is {total:g} seconds; give a "
                "positive one, such as days=1, or name the field itself, which leaves "
                "out images of the same day."
            )
        object.__setattr__(self, "seconds", total)

    def __str__(self) -> str:
        unit = next((u for u, s in _UNITS.items() if self.seconds % s == 0), "s")
        return f"{self.field}:{self.seconds / _UNITS[unit]:.15g}{unit}"


Rule: TypeAlias = tuple[str | Within, ...]
"""Terms that must all hold for a gallery image to be left out: fields, spans."""


def rule_name(rule: Rule) -> str:
    """Return a rule as text, as the command line takes it."""
    return ",".join(map(str, rule))


def parse_rule(text: str) -> Rule:
    """Read a rule such as ``identity,clothes`` or ``identity,date:12h``.

    Raises
    ------
    DataError
        If a term has no name.
    """
    terms: list[str | Within] = []
    for part in map(str.strip, text.split(",")):
        spanned = _SPANNED.fullmatch(part)
        if not part:
            raise DataError(
                f"the rule {text!r} has a term without a name; give fields separated "
                "by commas, such as identity,clothes or identity,date:12h."
            )
        if spanned is None:
            terms.append(part)
        else:
            name, span, unit = spanned.groups()
            terms.append(Within(name, seconds=float(span) * _UNITS[unit]))
    return tuple(terms)


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
        Leave out gallery images of the query's identity from the query's camera, as the
        rule ``(identity_field, camera_field)`` of ``exclude`` would. Has no effect
        without ``camera_field``.
    junk : sequence of str, int or float
        Identities whose images are left out completely, both as queries and from the
        gallery. Market-1501 marks bad detections with the identity -1:
        ``junk=("-1",)``. If the field holds numbers, they are compared as numbers:
        -1, ``"-1"``, -1.0, and ``"0000"`` and 0.
    distractors : sequence of str, int or float
        Identities whose images are in the gallery, but match no query and are not
        queries. Market-1501: ``distractors=("0000",)``. Compared like ``junk``.
    split_field : str, optional
        Field (or ``tags``) that separates queries from gallery images. None makes every
        image both.
    query_value, gallery_value : str
        Values of that field, or tags, of queries and gallery images.
    exclude_self : bool
        Leave out the query itself.
    exclude_duplicates : bool
        Leave out gallery images whose embedding equals the query's, up to rounding.
    exclude : sequence of sequences
        Rules. Each is a sequence of fields that must all be equal for a gallery image
        to be left out for a query, such as ``("identity", "clothes")``. A field of
        dates or of dates with times is equal on the same day (in UTC); a
        :class:`Within` instead of a field allows a span of time. A missing value is
        equal to nothing.
    query_field, gallery_field : str, optional
        Boolean fields that are true for queries and for gallery images, instead of
        ``split_field``; an image may be both. If one is None, every image is that.
    gallery_shots : int, optional
        Also evaluate with a gallery of this many random images per identity (1: single
        gallery shot, as the first protocol of CUHK03), see
        :func:`fiftyone_sfam.evaluate_retrieval`. Neighbors and maps are those of the
        whole gallery.
    gallery_per : sequence of str
        Fields, the identity field among them: the images are drawn for each combination
        of their values, such as ``("identity", "camera")`` for SYSU-MM01. By default
        for each identity.
    draws, seed : int
        Number of such galleries, whose measures are averaged, and their seed.

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

    A query is not compared with images of its identity from its camera, nor with those
    in the same clothes:

    >>> rules = Protocol(
    ...     "identity", camera_field="camera", exclude=[("identity", "clothes")]
    ... )
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
    exclude: tuple[Rule, ...] = ()
    query_field: str | None = None
    gallery_field: str | None = None
    gallery_shots: int | None = None
    gallery_per: tuple[str, ...] = ()
    draws: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _FIELDS:
            _check_field(name, getattr(self, name))
        for name in ("junk", "distractors"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise DataError(
                    f"{name} is the text {value!r}; give a list of identities."
                )
            texts = tuple(label_text(item) or "" for item in value)
            object.__setattr__(self, name, texts)
        for name in ("query_value", "gallery_value"):
            object.__setattr__(self, name, label_text(getattr(self, name)) or "")
        if (self.junk or self.distractors) and self.identity_field is None:
            raise DataError(
                "junk and distractor identities need identity_field to be given."
            )
        both = sorted(set(self.junk) & set(self.distractors))
        if both:
            raise DataError(
                f"identity '{both[0]}' is both junk and a distractor; choose one."
            )
        object.__setattr__(self, "exclude", _rules(self.exclude))
        roles = self.query_field or self.gallery_field
        if self.split_field is not None and roles:
            raise DataError(
                f"split_field is '{self.split_field}' and a boolean field '{roles}' is "
                "given too; give one or the other."
            )
        if roles and self.query_value == self.gallery_value:
            raise DataError(
                f"query_value and gallery_value are both {self.query_value!r}; leave "
                "them out with boolean fields."
            )
        object.__setattr__(self, "gallery_per", _drawn_per(self))
        _check_shots(self)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules that leave out pairs: that of the camera, then ``exclude``."""
        if (
            self.exclude_same_camera
            and self.identity_field is not None
            and self.camera_field is not None
        ):
            return ((self.identity_field, self.camera_field), *self.exclude)
        return self.exclude

    def to_dict(self) -> dict[str, Any]:
        """Return the rules as a JSON-compatible dictionary.

        Returns
        -------
        dict
            Rules by name. The last ones, from ``exclude`` on, are left out where they
            have their default.
        """
        # So that the settings of runs of earlier versions stay what they were.
        return {
            item.name: _plain(getattr(self, item.name))
            for item in fields(self)
            if item.name not in _LATER or getattr(self, item.name) != item.default
        }

    @classmethod
    def from_dict(cls, rules: Mapping[str, Any]) -> Protocol:
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
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(rules) - known)
        if unknown:
            raise DataError(
                f"unknown protocol rule {unknown[0]!r}; known are "
                f"{', '.join(sorted(known))}."
            )
        return cls(**rules)


_FIELDS = (
    "identity_field",
    "camera_field",
    "split_field",
    "query_field",
    "gallery_field",
)
# Rules that runs of earlier versions do not have.
_LATER = frozenset(
    (
        *("exclude", "query_field", "gallery_field", "gallery_shots", "gallery_per"),
        *("draws", "seed"),
    )
)


def _check_field(name: str, value: object) -> None:
    """Raise if a field is given as anything but a name."""
    if value is None or (isinstance(value, str) and value):
        return
    way = "give the name of a field"
    if isinstance(value, (list, tuple)) and name == "camera_field":
        way = (
            "give one field, and the others as rules, such as "
            'exclude=[("identity", "clothes")]'
        )
    raise DataError(f"{name} is {value!r}; {way}.")


def _rules(given: object) -> tuple[Rule, ...]:
    """Check the rules of ``exclude``, and return them as tuples."""
    if isinstance(given, (str, Within, Mapping)) or not isinstance(given, Iterable):
        raise DataError(
            f"exclude is {given!r}; give a list of rules, each a list of fields, such "
            'as [("identity", "clothes")].'
        )
    return tuple(dict.fromkeys(_rule(rule) for rule in given))


def _rule(given: object) -> Rule:
    """Check one rule, and return it as a tuple."""
    if isinstance(given, (str, Within)) or not isinstance(given, Sequence):
        raise DataError(
            f"exclude has the rule {given!r}; each rule is a list of fields, such as "
            f"({given if isinstance(given, str) else 'encounter'!r},)."
        )
    terms = []
    for term in given:
        if isinstance(term, Mapping) and set(term) == {"field", "seconds"}:
            term = Within(term["field"], seconds=term["seconds"])
        if not isinstance(term, Within) and not (isinstance(term, str) and term):
            raise DataError(
                f"the rule {tuple(given)!r} has the term {term!r}; give the name of a "
                "field, or Within(field, days=1) for a span of time."
            )
        terms.append(term)
    names = [term.field if isinstance(term, Within) else term for term in terms]
    if not names or len(set(names)) < len(names):
        problem = "names a field twice" if names else "is empty"
        raise DataError(f"the rule {tuple(given)!r} {problem}; give each field once.")
    return tuple(terms)


def _drawn_per(protocol: Protocol) -> tuple[str, ...]:
    """Check the fields of ``gallery_per``; none stand for the identity alone."""
    given, identity = protocol.gallery_per, protocol.identity_field
    named = isinstance(given, Sequence) and not isinstance(given, str)
    if not named or not all(isinstance(name, str) and name for name in given):
        raise DataError(
            f"gallery_per is {given!r}; give a list of fields, such as "
            f'("{identity or "identity"}", "camera").'
        )
    if len(set(given)) < len(given):
        raise DataError(
            f"gallery_per {tuple(given)!r} names a field twice; give each field once."
        )
    if given and protocol.gallery_shots is None:
        raise DataError("gallery_per needs gallery_shots to be given.")
    if given and identity not in given:
        raise DataError(
            f"gallery_per {tuple(given)!r} is without the identity field '{identity}'; "
            "add it, so that images of each identity are drawn."
        )
    return () if tuple(given) == (identity,) else tuple(given)


def _check_shots(protocol: Protocol) -> None:
    """Raise if the random galleries cannot be drawn as asked."""
    for name, least, most in (
        ("gallery_shots", 1, math.inf),
        ("draws", 1, math.inf),
        ("seed", 0, _MAX_SEED),
    ):
        value = getattr(protocol, name)
        if value is None and name == "gallery_shots":
            continue
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not least <= value <= most:
            raise DataError(f"{name} is {value!r}; give a whole number from {least}.")
    if protocol.gallery_shots is not None and protocol.identity_field is None:
        raise DataError("gallery_shots needs identity_field to be given.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def _plain(value: Any) -> Any:
    """Return a rule's value as JSON has it."""
    if isinstance(value, Within):
        return asdict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
