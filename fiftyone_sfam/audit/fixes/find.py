"""The fixes of a run: corrections of labels from its verdicts, and their file.

:mod:`fiftyone_sfam.audit.fixes.rules` derives fixes from verdicts, and
:mod:`fiftyone_sfam.audit.fixes.apply` writes fixes to a field. In between, fixes can be
saved to a JSON file and edited::

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

``id`` is the id of the sample, or of the detection if the run compared detections. A
fix whose ``new`` is null is open: it is not applied until a person enters the right
identity. Fixes may be deleted from the list. Conflicts are for information only.
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

from fiftyone_sfam.audit.fixes.rules import (
    RULES,
    ItemVerdict,
    Labels,
    PairVerdict,
    derive,
)
from fiftyone_sfam.audit.suspects.finding import MISLABELED, THRESHOLD, Finding
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone_sfam.runs.run import Run

FORMAT, VERSION = "fiftyone-sfam fixes", 1

MAX_BYTES = 256 * 2**20
"""Maximum size of a file of fixes."""


@dataclass(frozen=True, kw_only=True)
class Fix:
    """A correction of the label of one image.

    Attributes
    ----------
    id : str
        Id of the image's sample, or of its detection.
    sample_id : str
        Id of the image's sample.
    old : str or None
        Identity of the image when the run was made.
    new : str or None
        Right identity; None for open fixes.
    rule : str
        One of :data:`RULES`.
    reason : str
        One sentence.
    verdicts : tuple of PairVerdict
        Verdicts that the fix is based on.
    """

    id: str
    sample_id: str
    old: str | None
    new: str | None
    rule: str
    reason: str
    verdicts: tuple[PairVerdict, ...]


@dataclass(frozen=True)
class Conflict:
    """Verdicts that contradict each other. Their fixes are left out."""

    ids: tuple[str, ...]  # the images
    sentence: str  # the contradiction in words
    verdicts: tuple[PairVerdict, ...]  # one of them must be changed


@dataclass(frozen=True, kw_only=True)
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
        UTC time in ISO 8601 format.
    fixes : tuple of Fix
        The fixes, in the order of the run's images.
    conflicts : tuple of Conflict
        Contradictions, whose fixes are left out.
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
        """The fixes that need a decision by a person."""
        return tuple(fix for fix in self.fixes if fix.new is None)


def find_fixes(run: Run) -> Fixes:
    """Derive the fixes of a run from its verdicts and suspects."""
    from fiftyone_sfam.audit.suspects.search import load_suspects
    from fiftyone_sfam.review.verdicts import get_verdicts

    identity_field = run.config.protocol.get("identity_field")
    if identity_field is None:
        raise DataError(
            f"the run '{run.key}' has no identity field, so there are no labels to "
            "fix; make a run with an identity field."
        )
    pairs, items = run.pairs, run.items
    verdicts = [
        ItemVerdict(
            int(pairs.query[pair]),
            int(pairs.gallery[pair]),
            PairVerdict(
                verdict.query_id, verdict.neighbor_id, verdict.text, verdict.note
            ),
        )
        for pair, verdict in get_verdicts(run).items()
    ]
    labels = Labels(
        items.identities, frozenset(run.config.protocol.get("distractors", ()))
    )
    suspects = load_suspects(run)
    suspected = {} if suspects is None else suggested_labels(suspects.findings)
    fixes, conflicts = derive(labels, verdicts, suspected)
    return Fixes(
        dataset=run.dataset.name,
        run=run.key,
        field=identity_field,
        patches_field=run.config.patches_field,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        fixes=tuple(
            Fix(
                id=str(items.ids[fix.item]),
                sample_id=str(items.sample_ids[fix.item]),
                old=labels.names[fix.item],
                new=fix.new,
                rule=fix.rule,
                reason=fix.reason,
                verdicts=fix.verdicts,
            )
            for fix in fixes
        ),
        conflicts=tuple(
            Conflict(
                tuple(str(items.ids[item]) for item in conflict.items),
                conflict.sentence,
                conflict.verdicts,
            )
            for conflict in conflicts
        ),
    )


def suggested_labels(findings: Iterable[Finding]) -> dict[int, str | None]:
    """Return the items that findings call mislabeled, and the suggested identities."""
    suggested: dict[int, str | None] = {}
    for finding in findings:
        if finding.kind != MISLABELED or finding.score < THRESHOLD:
            continue
        # With one other image of the label, either of the two may be wrong.
        is_clear = finding.evidence.get("own_images") != 1
        for item in finding.items:
            suggested.setdefault(item, finding.identities[1] if is_clear else None)
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
        raise DataError(f"'{path}' exists; use a different name, or overwrite it.")
    text = dump_fixes(find_fixes(run) if fixes is None else fixes)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A killed process must not leave half a file under this name.
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    part.write_text(text, "utf-8")
    os.replace(part, path)
    return path


def dump_fixes(fixes: Fixes) -> str:
    """Return fixes as the text of their file."""
    body = {"format": FORMAT, "version": VERSION, **asdict(fixes)}
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def read_fixes(path: Path | str) -> Fixes:
    """Read and check a file of fixes, which may have been edited."""
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
    except _FormatError as error:
        raise DataError(f"'{path.name}' is not a file of fixes: {error}.") from error


class _FormatError(Exception):
    """Invalid content of a file."""


def _parsed(body: Any) -> Fixes:
    """Check the content of a file and return it."""
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise _FormatError(f"its 'format' is not '{FORMAT}'")
    if body.get("version") != VERSION:
        raise _FormatError(f"its version is not {VERSION}")
    return Fixes(
        dataset=_text(body, "dataset"),
        run=_text(body, "run"),
        field=_text(body, "field"),
        patches_field=_text_or_none(body, "patches_field"),
        created=_text(body, "created"),
        fixes=tuple(map(_fix, _entries(body, "fixes"))),
        conflicts=tuple(map(_conflict, _entries(body, "conflicts"))),
    )


def _fix(entry: Mapping[str, Any]) -> Fix:
    new = _text_or_none(entry, "new")
    if new is not None and not new.strip():
        raise _FormatError("a 'new' is empty: use an identity, or null")
    rule = _text(entry, "rule")
    if rule not in RULES:
        raise _FormatError(f"a 'rule' is {rule!r}, not one of {', '.join(RULES)}")
    return Fix(
        id=_text(entry, "id"),
        sample_id=_text(entry, "sample_id"),
        old=_text_or_none(entry, "old"),
        new=new,
        rule=rule,
        reason=_text(entry, "reason"),
        verdicts=_verdicts(entry),
    )


def _conflict(entry: Mapping[str, Any]) -> Conflict:
    ids = entry.get("ids")
    if not isinstance(ids, list) or not all(isinstance(key, str) for key in ids):
        raise _FormatError("the 'ids' of a conflict are not a list of strings")
    return Conflict(tuple(ids), _text(entry, "sentence"), _verdicts(entry))


def _verdicts(entry: Mapping[str, Any]) -> tuple[PairVerdict, ...]:
    names = ("query_id", "neighbor_id", "text", "note")
    return tuple(
        PairVerdict(*(_text(verdict, name) for name in names))
        for verdict in _entries(entry, "verdicts")
    )


def _entries(entry: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    values = entry.get(name)
    if not isinstance(values, list) or not all(isinstance(v, dict) for v in values):
        raise _FormatError(f"'{name}' is not a list of objects")
    return values


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise _FormatError(f"a '{name}' is {value!r}, not a string")
    return value


def _text_or_none(entry: Mapping[str, Any], name: str) -> str | None:
    return None if entry.get(name) is None else _text(entry, name)
