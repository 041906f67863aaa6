"""What the component of findings asks: findings with their pictures, and answers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import fiftyone.operators as foo
import numpy as np
from PIL import Image
from pydantic import Field

from fiftyone_sfam.app.audit.results import stored
from fiftyone_sfam.app.forms.choices import for_user
from fiftyone_sfam.app.forms.parameters import Text, Texts, Whole, whole
from fiftyone_sfam.app.pairs.bounded import MOST_BYTES
from fiftyone_sfam.app.pairs.pictures import ImageFile, image_file
from fiftyone_sfam.app.pairs.run_question import Plain, Questions, RunQuestion
from fiftyone_sfam.app.pairs.verdicts import (
    RepeatableQuestion,
    UndoQuestion,
    write_verdicts,
)
from fiftyone_sfam.attribution.render import data_url, fitted
from fiftyone_sfam.audit.suspects.display import expected_sentence
from fiftyone_sfam.audit.suspects.finding import (
    DUPLICATE,
    MERGED,
    MISLABELED,
    PROBABLE,
    SPLIT,
)
from fiftyone_sfam.audit.suspects.review import (
    pairs_of_proposal,
    review_suspects,
    settle_proposal,
)
from fiftyone_sfam.audit.suspects.search import Finding, Suspects, load_suspects
from fiftyone_sfam.data.text import NO_LABEL, counted, short, shorten
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.verdicts import restore_verdicts
from fiftyone_sfam.runs.images import ItemImages
from fiftyone_sfam.runs.run import Run

MOST_FINDINGS = 20
"""Most findings of an answer."""

MOST_PICTURES = 4
"""Most pictures of a group of a finding."""

_LONGEST = 600  # characters of a sentence
_GONE = "this finding is gone since the suspects were searched again; choose another."
# Largest width and height of pictures, tried one after the other.
_SIZES = ((144, 112), (108, 84), (72, 56), (40, 32))


class ListQuestion(RunQuestion):
    """Which findings to list."""

    start: Whole = whole(0, 0, 1_000_000_000)
    count: Whole = whole(8, 1, MOST_FINDINGS)
    kind: Text | None = None
    min_probability: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="a number from 0 to 1"
    )


class FindingQuestion(RepeatableQuestion):
    """Which proposal to accept or reject."""

    finding: Text = ""
    shown: Texts = ()  # keys of the findings that are shown


class RestoreQuestion(FindingQuestion, UndoQuestion):
    """Which proposal to take back, and the verdicts that there were before."""


@dataclass(frozen=True)
class Group:
    """Images of a finding that belong together."""

    role: str  # doubted, own or other
    title: str
    items: tuple[int, ...]

    @property
    def drawn(self) -> tuple[int, ...]:
        """The images that are shown."""
        return self.items[:MOST_PICTURES]


# --------------------------------------------------------------------------------------
# Questions
# --------------------------------------------------------------------------------------


def answer_findings(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Return some findings with their pictures."""
    question = ListQuestion.read(ctx.params)
    run = question.load(ctx)
    suspects = _suspects(run)
    counts = Counter(finding.kind for finding in suspects.findings)
    if question.kind is not None and question.kind not in counts:
        kind = repr(shorten(question.kind, 60))
        raise DataError(f"there is no finding of the kind {kind}.")
    reviewed = review_suspects(run, suspects)
    listed = [
        (finding, settled)
        for finding, settled in reviewed.listed()
        if question.kind in (None, finding.kind)
        and finding.score >= question.min_probability
    ]
    if question.start and question.start >= len(listed):
        raise DataError(
            f"there are {counted(len(listed), 'finding')}, numbered from 0; there is "
            f"none with the number {question.start:,}."
        )
    shown = listed[question.start : question.start + question.count]
    groups = [groups_of(run, finding) for finding, _ in shown]
    result = {
        "findings": [
            _finding(run, finding, settled, of_finding)
            for (finding, settled), of_finding in zip(shown, groups, strict=True)
        ],
        "total": len(listed),
        "kinds": [
            {"name": kind, "label": f"{kind} ({count:,})"}
            for kind, count in counts.items()
        ],
        "expected": expected_sentence(suspects, reviewed),
    }
    left = MOST_BYTES - len(json.dumps(result, ensure_ascii=False).encode())
    items = [item for every in groups for group in every for item in group.drawn]
    return {**result, "pictures": _pictures(run, dict.fromkeys(items), left)}


def answer_settle(ctx: foo.ExecutionContext, is_right: bool) -> Plain:
    """Accept or reject a finding; return what there was before."""
    question = FindingQuestion.read(ctx.params)
    run = question.load(ctx)
    finding = find_finding(run, question.finding)
    settle = partial(settle_proposal, run, finding, is_right, question.request_id)
    previous = write_verdicts(ctx, run, settle)
    if not previous:
        raise DataError(_no_verdict(run, finding))
    return _settled(run, question.shown, previous)


def answer_restore(ctx: foo.ExecutionContext) -> Plain:
    """Restore the verdicts that there were before; return those since then."""
    question = RestoreQuestion.read(ctx.params)
    run = question.load(ctx)
    pairs = pairs_of_proposal(run, find_finding(run, question.finding))
    restored = question.previous(run)
    if not restored or not restored.keys() <= {*pairs}:
        raise DataError("these are not the verdicts that the finding had.")
    restore = partial(restore_verdicts, run, restored)
    return _settled(run, question.shown, write_verdicts(ctx, run, restore))


QUESTIONS: Questions = {
    "findings": answer_findings,
    "accept": partial(answer_settle, is_right=True),
    "reject": partial(answer_settle, is_right=False),
    "restore": answer_restore,
}


def find_finding(run: Run, key: str) -> Finding:
    """Return the finding of a key; raise a DataError if it is gone."""
    for finding in _suspects(run).findings:
        if finding_key(finding) == key:
            return finding
    raise DataError(_GONE)


def finding_key(finding: Finding) -> str:
    """Return what a finding is known by, whatever its place and its score are."""
    values = [finding.kind, finding.identities, finding.items]
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=6).hexdigest()


def _suspects(run: Run) -> Suspects:
    suspects = stored(run, load_suspects)
    if suspects is None:
        raise DataError(_GONE)
    return suspects


def _settled(run: Run, keys: Sequence[str], previous: list[Plain]) -> Plain:
    """Return how findings are settled now; a verdict may settle several."""
    suspects = _suspects(run)
    reviewed = review_suspects(run, suspects)
    settled = {finding_key(finding): text for finding, text in reviewed.listed()}
    return {
        "verdicts": [(key, settled[key]) for key in keys if key in settled],
        "expected": expected_sentence(suspects, reviewed),
        "previous": previous,
    }


# --------------------------------------------------------------------------------------
# What is shown of a finding
# --------------------------------------------------------------------------------------


def _finding(
    run: Run, finding: Finding, settled: str, groups: Iterable[Group]
) -> dict[str, Any]:
    note = _no_verdict(run, finding)
    hint = ""
    if finding.kind == MERGED and not note:
        hint = "Once accepted, enter the new identity in the file of fixes."
    return {
        "key": finding_key(finding),
        "kind": finding.kind,
        "score": f"{finding.score:.2f}",
        "probable": finding.kind in PROBABLE,
        "sentence": shorten(finding.sentence, _LONGEST),
        "proposal": shorten(finding.proposal, _LONGEST),
        "answer": settled,
        "note": note or hint,
        "can_settle": not note,
        "groups": [
            {
                "role": group.role,
                "title": group.title,
                "items": group.drawn,
                "more": len(group.items) - len(group.drawn),
            }
            for group in groups
        ],
    }


def _no_verdict(run: Run, finding: Finding) -> str:
    """Say why a finding takes no verdict; empty if it does."""
    if finding.kind not in PROBABLE:
        return "This is about pictures, so there is no verdict to give."
    if not pairs_of_proposal(run, finding):
        return (
            "No stored pair shows this, so there is no verdict to give: correct the "
            "labels in the dataset, or make a run with more neighbors."
        )
    return ""


def groups_of(run: Run, finding: Finding) -> list[Group]:
    """Return the images that a finding is about, by group, the clearest ones first."""
    names = run.items.identities
    near = _partners(run, finding)
    suspected = [item for item in near if item in {*finding.items}]
    items = tuple(dict.fromkeys([*suspected, *finding.items]))
    if finding.kind == DUPLICATE:
        return [Group("doubted", "The copies", items)]
    if finding.kind == SPLIT:
        return [
            Group(role, _labeled(name), tuple(i for i in items if names[i] == name))
            for role, name in zip(("own", "other"), finding.identities, strict=True)
        ]
    changes = tuple(item for item in items if item in {*finding.changes})
    if finding.kind == MERGED:
        rest = tuple(item for item in items if item not in changes)
        return [
            Group("doubted", "Smaller group", changes),
            Group("own", "Larger group", rest),
        ]
    one = counted(len(items), "image")
    title = "Doubted image" if len(items) == 1 else f"{one} in doubt"
    groups = [Group("doubted", title, items)]
    label = names[items[0]]
    if label is not None:
        groups.append(_people(run, "own", label, near, items))
    if finding.kind == MISLABELED:
        groups.append(_people(run, "other", finding.identities[-1], near, items))
    else:
        others = tuple(
            item for item in near if item not in items and names[item] != label
        )
        groups.append(Group("other", "Nearest others", others[:MOST_PICTURES]))
    return [group for group in groups if group.items]


def _people(
    run: Run, role: str, name: str, near: Sequence[int], without: Sequence[int]
) -> Group:
    """Return the images of an identity, those near the doubted ones first."""
    own = _by_identity(run).get(name, ())
    listed = dict.fromkeys([*(item for item in near if item in {*own}), *own])
    return Group(
        role, _labeled(name), tuple(item for item in listed if item not in without)
    )


def _labeled(name: str) -> str:
    return f"Labeled {short(name)}"


def _partners(run: Run, finding: Finding) -> list[int]:
    """Return the images of the pairs of a finding and of its images, nearest first."""
    columns, items = run.pairs, np.array(finding.items)
    pairs = np.flatnonzero(
        np.isin(columns.query, items) | np.isin(columns.gallery, items)
    )
    pairs = pairs[np.argsort(-columns.similarity[pairs], kind="stable")]
    pairs = np.concatenate([np.array(finding.pairs, dtype=np.int64), pairs])
    ends = np.stack([columns.query[pairs], columns.gallery[pairs]], axis=1)
    return list(dict.fromkeys(ends.reshape(-1).tolist()))


@lru_cache(maxsize=2)
def _by_identity(run: Run) -> dict[str | None, tuple[int, ...]]:
    found: dict[str | None, list[int]] = {}
    for item, name in enumerate(run.items.identities):
        found.setdefault(name, []).append(item)
    return {name: tuple(items) for name, items in found.items()}


# --------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------


def _pictures(run: Run, items: Iterable[int], most: int) -> dict[str, dict[str, Any]]:
    """Return the pictures of items, of at most so many bytes."""
    images, files = ItemImages(run, items), {}
    shown: dict[str, dict[str, Any]] = {}
    for item in items:
        shown[str(item)] = {"url": "", "label": _label(run, item), "problem": None}
        try:
            files[str(item)] = image_file(*images.source(item))
            _small(files[str(item)], *_SIZES[-1])
        except DataError as error:
            files.pop(str(item), None)
            shown[str(item)]["problem"] = shorten(for_user(error), 200)
    # Room for what is put around the pictures, and for problems.
    left = most - len(json.dumps(shown, ensure_ascii=False).encode())
    left -= 30 + 10 * len(shown)
    urls: dict[str, str] = {}
    for size in _SIZES:
        urls = {key: _small(file, *size) for key, file in files.items()}
        if sum(map(len, urls.values())) <= left:
            break
    for key, url in urls.items():
        left -= len(url)
        shown[key].update({"url": url} if left >= 0 else {"problem": "Too many."})
    return shown


def _label(run: Run, item: int) -> str:
    identity, camera = run.items.identities[item], run.items.cameras[item]
    parts = [NO_LABEL if identity is None else identity, camera]
    return ", ".join(short(part) for part in parts if part is not None)


@lru_cache(maxsize=2048)
def _small(file: ImageFile, width: int, height: int) -> str:
    return data_url(fitted(_read(file), width, height), "JPEG")


@lru_cache(maxsize=256)
def _read(file: ImageFile) -> Image.Image:
    return fitted(file.read(), *_SIZES[0])
