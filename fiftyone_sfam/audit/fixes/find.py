"""The fixes of a run: corrections of labels that its verdicts agree on, and their file.

:mod:`fiftyone_sfam.audit.fixes.rules` says which verdict means which fix, and
:mod:`fiftyone_sfam.audit.fixes.apply` puts fixes into a field. Between the two lies a
JSON file that people may edit::

    {
      "format": "fiftyone-sfam fixes", "version": 1,
      "dataset": "people", "run": "sfam", "field": "identity", "patches_field": null,
      "created": "2025-01-31T12:00:00+00:00",
      "fixes": [
        {
          "id": "...", "sample_id": "...",
          "old": "p012", "new": "p031",
          "rule": "finding", "reason": "...",
          "verdicts": [
            {"query_id": "...", "neighbor_id": "...", "text": "wrong label", "note": ""}
          ]
        }
      ],
      "conflicts": [{"ids": ["..."], "sentence": "...", "verdicts": [...]}]
    }

``id`` is the sample's, or the detection's where the run compared detections. A fix
whose ``new`` is null is open: it is not applied until someone puts the right identity
there. Fixes may be deleted from the list; conflicts are there to be read.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.audit.fixes.rules import RULES, Ground, Judged, Labels, derive
from fiftyone_sfam.audit.suspects.finding import MISLABELED, THRESHOLD, Finding
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone_sfam.runs.run import Run

FORMAT, VERSION = "fiftyone-sfam fixes", 1

MAX_BYTES = 256 * 2**20
"""Most bytes of a file of fixes."""


@dataclass(frozen=True)
class Fix:
    """What the label of one image should be.

    Attributes
    ----------
    id : str
        The image: id of its sample, or of its detection.
    sample_id : str
        Its sample.
    old : str or None
        Identity that it had when the run was made.
    new : str or None
        Identity that it should have; None while nobody has said it.
    rule : str
        One of :data:`RULES`.
    reason : str
        One sentence.
    verdicts : tuple of Ground
        What it rests on.
    """

    id: str
    sample_id: str
    old: str | None
    new: str | None
    rule: str
    reason: str
    verdicts: tuple[Ground, ...]


@dataclass(frozen=True)
class Conflict:
    """Verdicts that contradict each other, whose fixes were left out."""

    ids: tuple[str, ...]  # the images
    sentence: str  # what the contradiction is
    verdicts: tuple[Ground, ...]  # the verdicts, of which one has to be changed


@dataclass(frozen=True)
class Fixes:
    """The fixes of a run.

    Attributes
    ----------
    dataset, run : str
        Name of the dataset and key of the run.
    field : str
        The run's identity field.
    patches_field : str or None
        Field of the detections that the run compared.
    created : str
        When, in UTC, ISO 8601.
    fixes : tuple of Fix
        In the order of the run's images.
    conflicts : tuple of Conflict
        What was left out.
    """

    dataset: str
    run: str
    field: str
    patches_field: str | None
    created: str
    fixes: tuple[Fix, ...]
    conflicts: tuple[Conflict, ...]

    @property
    def agreed(self) -> tuple[Fix, ...]:
        """The fixes that can be applied."""
        return tuple(fix for fix in self.fixes if fix.new is not None)

    @property
    def open(self) -> tuple[Fix, ...]:
        """The fixes that wait for somebody to say what is right."""
        return tuple(fix for fix in self.fixes if fix.new is None)


def find_fixes(run: Run) -> Fixes:
    """Derive the fixes of a run from its verdicts and suspects."""
    from fiftyone_sfam.review.verdicts import get_verdicts

    identity_field = run.config.protocol.get("identity_field")
    if identity_field is None:
        raise DataError(
            f"the run '{run.key}' has no identity field, so there are no labels to "
            "fix; make a run with one."
        )
    verdicts = [
        Judged(
            int(run.pairs.query[pair]),
            int(run.pairs.gallery[pair]),
            Ground(one.query_id, one.neighbor_id, one.text, one.note),
        )
        for pair, one in get_verdicts(run).items()
    ]
    labels = Labels(
        run.items.identities, frozenset(run.config.protocol.get("distractors", ()))
    )
    changes, conflicts = derive(labels, verdicts, _suspected(run))
    ids, sample_ids = run.items.ids, run.items.sample_ids
    return Fixes(
        run.dataset.name,
        run.key,
        identity_field,
        run.config.patches_field,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tuple(
            Fix(
                str(ids[one.item]),
                str(sample_ids[one.item]),
                labels.names[one.item],
                one.new,
                one.rule,
                one.reason,
                one.verdicts,
            )
            for one in changes
        ),
        tuple(
            Conflict(
                tuple(str(ids[item]) for item in one.items), one.sentence, one.verdicts
            )
            for one in conflicts
        ),
    )


def _suspected(run: Run) -> dict[int, str | None]:
    """Return the images that findings call mislabeled, and what they suggest."""
    from fiftyone_sfam.audit.suspects.search import load_suspects

    suspects = load_suspects(run)
    return {} if suspects is None else suggested_labels(suspects.findings)


def suggested_labels(findings: Iterable[Finding]) -> dict[int, str | None]:
    """Return the images that findings call mislabeled, and what they suggest."""
    suggested: dict[int, str | None] = {}
    for one in findings:
        if one.kind != MISLABELED or len(one.identities) != 2:
            continue
        if one.score < THRESHOLD:
            continue
        decided = one.evidence.get("own_images") != 1
        for item in one.items:
            suggested.setdefault(item, one.identities[1] if decided else None)
    return suggested


# --------------------------------------------------------------------------------------
# The file
# --------------------------------------------------------------------------------------


def write_fixes(
    run: Run, path: Path | str, fixes: Fixes | None = None, *, overwrite: bool = False
) -> Path:
    """Write the fixes of a run to a file."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise DataError(f"'{path}' exists; give another name, or overwrite it.")
    text = dump_fixes(find_fixes(run) if fixes is None else fixes)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never half a file under this name.
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    part.write_text(text, "utf-8")
    os.replace(part, path)
    return path


def dump_fixes(fixes: Fixes) -> str:
    """Return fixes as the text of their file."""
    body = {"format": FORMAT, "version": VERSION, **asdict(fixes)}
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def read_fixes(path: Path | str) -> Fixes:
    """Read a file of fixes, written here and perhaps edited."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"'{path.name}' is too large to be a file of fixes.")
        body = json.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"'{path}' cannot be read: {reason}.") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"'{path.name}' is not JSON: {error}.") from error
    try:
        return _parsed(body)
    except _WrongError as error:
        raise DataError(f"'{path.name}' is not a file of fixes: {error}.") from error


class _WrongError(Exception):
    """What is wrong with the content of a file."""


def _parsed(body: Any) -> Fixes:
    """Check the content of a file and return it."""
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise _WrongError(f"its 'format' is not '{FORMAT}'")
    if body.get("version") != VERSION:
        raise _WrongError(f"its version is not {VERSION}")
    return Fixes(
        _text(body, "dataset"),
        _text(body, "run"),
        _text(body, "field"),
        _text_or_none(body, "patches_field"),
        _text(body, "created"),
        tuple(map(_fix, _entries(body, "fixes"))),
        tuple(map(_conflict, _entries(body, "conflicts"))),
    )


def _fix(entry: Mapping[str, Any]) -> Fix:
    new = _text_or_none(entry, "new")
    if new is not None and not new.strip():
        raise _WrongError("a 'new' is empty: give an identity, or null")
    rule = _text(entry, "rule")
    if rule not in RULES:
        raise _WrongError(f"a 'rule' is {rule!r}, not one of {', '.join(RULES)}")
    return Fix(
        _text(entry, "id"),
        _text(entry, "sample_id"),
        _text_or_none(entry, "old"),
        new,
        rule,
        _text(entry, "reason"),
        tuple(map(_ground, _entries(entry, "verdicts"))),
    )


def _conflict(entry: Mapping[str, Any]) -> Conflict:
    ids = entry.get("ids")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise _WrongError("the 'ids' of a conflict are no list of texts")
    return Conflict(
        tuple(ids),
        _text(entry, "sentence"),
        tuple(map(_ground, _entries(entry, "verdicts"))),
    )


def _ground(entry: Mapping[str, Any]) -> Ground:
    names = ("query_id", "neighbor_id", "text", "note")
    return Ground(*(_text(entry, name) for name in names))


def _entries(entry: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = entry.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _WrongError(f"'{name}' is no list of objects")
    return found


def _text(entry: Mapping[str, Any], name: str) -> str:
    found = entry.get(name)
    if not isinstance(found, str):
        raise _WrongError(f"a '{name}' is {found!r}, not a text")
    return found


def _text_or_none(entry: Mapping[str, Any], name: str) -> str | None:
    return None if entry.get(name) is None else _text(entry, name)
