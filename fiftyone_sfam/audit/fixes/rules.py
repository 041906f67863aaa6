"""From verdicts on pairs to corrections of single labels.

A verdict is about a pair of images, a fix about the label of one image. These rules
lead from verdicts to fixes:

1. ``wrong label`` means that one of the two labels is wrong. Which one, and the right
   identity, come from

   a. the verdict's note, if a line is ``query: NAME`` or ``neighbor: NAME`` with an
      identity of the run;
   b. otherwise the finding of a mislabeled image, if there is one for exactly one of
      the two images. The right identity is the one that the finding suggests, unless
      another verdict names one. (A finding that compares an image with a single other
      image of its label does not say which of the two is wrong, and suggests nothing.)

   Otherwise both images are *open*: they are listed with ``new=None``, and nothing is
   applied until a person adds the right identity to one of them. ``look-alike`` on two
   images of one identity has the same meaning as ``wrong label``.
2. ``same person`` on images that do not match by their labels means that they match.
   If a line of the note, as in 1a, gives one of the images the other's identity, this
   is the image whose label is wrong, and it gets this identity. Otherwise:

   a. An image without a label, or a distractor, gets the label of the other image. If
      both have none, they are open unless one is named in another way.
   b. If exactly one of the two labels is in doubt (a finding calls the image
      mislabeled, or rule 1 left it open or renamed it), this image gets the label of
      the other one. If both are in doubt, it is the image for which a finding suggests
      the other's identity. If there is no such image, or two, both are open.
   c. Otherwise the identities are merged: all images of the run with one of them get
      the name of the identity with more images (of equal ones, the alphabetically
      first). Merges are transitive: if A is B and B is C, all three are merged.

3. ``fine`` means that the labels are right: one person in a true match, two in a false
   match. ``look-alike`` means two persons, ``same person`` one. A fix must not
   contradict these verdicts.
4. ``background``, ``occlusion`` and custom verdicts are about the match, not about the
   labels.

A name from any rule is replaced by the name that it is merged into.

Contradictions are not resolved by guessing: two names for one image; a fix that gives
one name to images of two persons, or two names to images of one person, according to a
verdict. Such fixes are left out, and an :class:`ItemConflict` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.review.notes import APART, FINE, SAME, WRONG, named_in

BY_NOTE = "note"
BY_FINDING = "finding"
BY_PARTNER = "partner"
BY_MERGE = "merge"
UNDECIDED = "undecided"
RULES = (BY_NOTE, BY_FINDING, BY_PARTNER, BY_MERGE, UNDECIDED)
"""The rule of a fix: 1a; 1b; 2a or 2b; 2c; none, for open fixes."""

_MOST_CHARACTERS = 60


@dataclass(frozen=True)
class PairVerdict:
    """A verdict that a fix is based on."""

    query_id: str  # id of the sample, or of the detection
    neighbor_id: str  # id of the sample, or of the detection
    text: str
    note: str = ""


@dataclass(frozen=True)
class Labels:
    """The labels of a run's images."""

    names: Sequence[str | None]  # identity of each image
    distractors: frozenset[str] = frozenset()  # identities that match nobody

    def person(self, item: int) -> str | None:
        """Return the identity of an image; None for distractors."""
        name = self.names[item]
        return None if name in self.distractors else name

    def match(self, first: int, second: int) -> bool:
        """Return whether two images have one identity."""
        return (
            self.person(first) is not None and self.names[first] == self.names[second]
        )


@dataclass(frozen=True)
class ItemVerdict:
    """A verdict with the indices of its images into the run's items."""

    query: int
    neighbor: int
    verdict: PairVerdict

    @property
    def items(self) -> tuple[int, int]:
        """Both images."""
        return self.query, self.neighbor

    def partner(self, item: int) -> int:
        """Return the other image of the pair."""
        return self.neighbor if item == self.query else self.query


@dataclass(frozen=True)
class ItemFix:
    """A fix by the index of its image; see :class:`fixes.find.Fix`."""

    item: int
    new: str | None
    rule: str
    reason: str
    verdicts: tuple[PairVerdict, ...]


@dataclass(frozen=True)
class Merge:
    """Two identities of one person, according to a verdict."""

    first: str
    second: str
    verdict: PairVerdict


@dataclass(frozen=True)
class ItemConflict:
    """A conflict by the indices of its images; see :class:`fixes.find.Conflict`."""

    items: tuple[int, ...]
    sentence: str
    verdicts: tuple[PairVerdict, ...]


def derive(
    labels: Labels,
    verdicts: Sequence[ItemVerdict],
    suspected: Mapping[int, str | None],
) -> tuple[list[ItemFix], list[ItemConflict]]:
    """Derive fixes and conflicts from verdicts, by the rules of this module."""
    proposals = _Proposals(labels, suspected)
    proposals.read(verdicts)
    conflicts = list(proposals.resolve())
    return sorted(proposals.fixes(), key=lambda fix: fix.item), conflicts


class _Proposals:
    """Names and merges that verdicts ask for, without contradictions in the end."""

    def __init__(self, labels: Labels, suspected: Mapping[int, str | None]) -> None:
        self._labels = labels
        self._suspected = suspected
        self._known = {name for name in labels.names if name is not None}
        # Fixes of single images; several names for one image are a contradiction.
        self._single: dict[int, list[ItemFix]] = {}
        self._merges: list[Merge] = []
        self._targets: dict[str, str] = {}
        self._undecided: list[ItemVerdict] = []
        self._together: list[ItemVerdict] = []
        self._apart: list[ItemVerdict] = []

    # -- reading verdicts --------------------------------------------------------------

    def read(self, verdicts: Sequence[ItemVerdict]) -> None:
        """Read all verdicts; the result does not depend on their order."""
        same: list[ItemVerdict] = []
        for pair in verdicts:
            text, match = pair.verdict.text, self._labels.match(*pair.items)
            persons = [self._labels.person(item) for item in pair.items]
            if text == SAME or (text == FINE and match):
                self._together.append(pair)
                if not match:
                    same.append(pair)
            elif text == APART or (text == FINE and None not in persons):
                self._apart.append(pair)
            if text == WRONG or (text == APART and match):
                self._relabel(pair)
        same = [pair for pair in same if not self._take_partners_name(pair)]
        doubtful = {item for pair in self._undecided for item in pair.items}
        doubtful |= {*self._suspected, *self._single}
        for pair in same:
            self._join(pair, doubtful)
        self._name_unlabeled(same)

    def _relabel(self, pair: ItemVerdict) -> None:
        """Apply rule 1."""
        named = self._named_in_note(pair)
        for item, name in named:
            self._propose(item, name, BY_NOTE, "the verdict's note says so.", pair)
        if named:
            return
        items = [item for item in pair.items if item in self._suspected]
        suggested = self._suspected[items[0]] if len(items) == 1 else None
        if suggested is not None:
            reason = "a finding of this run says that the image is mislabeled."
            self._propose(items[0], suggested, BY_FINDING, reason, pair)
        else:
            self._undecided.append(pair)

    def _take_partners_name(self, pair: ItemVerdict) -> bool:
        """Apply the note of rule 2; return whether there is one."""
        named = [
            (item, name)
            for item, name in self._named_in_note(pair)
            if name == self._labels.person(pair.partner(item))
        ]
        if len(named) != 1:
            return False
        [(item, name)] = named
        self._propose(item, name, BY_NOTE, "the verdict's note says so.", pair)
        return True

    def _named_in_note(self, pair: ItemVerdict) -> list[tuple[int, str]]:
        """Return the images that a note renames, with their new names."""
        sides = {"query": pair.query, "neighbor": pair.neighbor}
        return [
            (sides[side], name)
            for side, name in named_in(pair.verdict.note)
            if name in self._known and name != self._labels.names[sides[side]]
        ]

    def _join(self, pair: ItemVerdict, doubtful: set[int]) -> None:
        """Apply rule 2, except to pairs without an identity."""
        first, second = (self._labels.person(item) for item in pair.items)
        if first is None and second is None:
            return
        if first is None or second is None:
            item = pair.query if first is None else pair.neighbor
            self._name_after_partner(item, pair)
            return
        items = [item for item in pair.items if item in doubtful]
        if not items:
            self._merges.append(Merge(first, second, pair.verdict))
            return
        if len(items) == 2:
            names = self._labels.names
            items = [
                item
                for item in items
                if self._suspected.get(item) == names[pair.partner(item)]
            ]
        if len(items) == 1:
            self._name_after_partner(items[0], pair)
        else:
            self._undecided.append(pair)

    def _name_unlabeled(self, same: Sequence[ItemVerdict]) -> None:
        """Apply rule 2 to pairs without an identity: names spread along the pairs."""
        person, single = self._labels.person, self._single
        waiting = [pair for pair in same if not any(map(person, pair.items))]
        while waiting:
            named = [
                (item, pair)
                for pair in waiting
                for item in pair.items
                if item not in single and pair.partner(item) in single
            ]
            if not named:
                break
            for item, pair in named:
                if item not in single:
                    name = str(single[pair.partner(item)][0].new)
                    self._propose(item, name, BY_PARTNER, _partner_reason(name), pair)
        self._undecided += [
            pair for pair in waiting if single.keys().isdisjoint(pair.items)
        ]

    def _name_after_partner(self, item: int, pair: ItemVerdict) -> None:
        name = str(self._labels.names[pair.partner(item)])
        self._propose(item, name, BY_PARTNER, _partner_reason(name), pair)

    def _propose(
        self, item: int, name: str, rule: str, reason: str, pair: ItemVerdict
    ) -> None:
        fixes = self._single.setdefault(item, [])
        # The word of a person comes before that of a finding.
        place = len(fixes) if rule == BY_FINDING else 0
        fixes.insert(place, ItemFix(item, name, rule, reason, (pair.verdict,)))

    # -- contradictions ----------------------------------------------------------------

    def resolve(self) -> Iterator[ItemConflict]:
        """Remove contradictory proposals until there are none; yield the conflicts."""
        while True:
            self._targets = merge_targets(self._merges, self._labels.names)
            conflict = self._two_names() or self._kept_apart() or self._held_together()
            if conflict is None:
                return
            yield conflict

    def _two_names(self) -> ItemConflict | None:
        """Remove the proposals for an image with two names."""
        for item, fixes in self._single.items():
            by_person = [fix for fix in fixes if fix.rule != BY_FINDING] or fixes
            names = sorted({self._merged(str(fix.new)) for fix in by_person})
            if len(names) > 1:
                sentence = (
                    f"Verdicts give one image {len(names)} names: "
                    f"{', '.join(map(quoted, names))}."
                )
                return ItemConflict((item,), sentence, self._drop((item,)))
        return None

    def _kept_apart(self) -> ItemConflict | None:
        """Remove proposals that give one name to images of two persons."""
        for pair in self._apart:
            name = self._new(pair.query)
            if name is None or name != self._new(pair.neighbor):
                continue
            dropped = self._drop(pair.items)
            if not dropped and not self._labels.match(*pair.items):
                dropped = self._drop_merge(name)
            if dropped:
                sentence = (
                    f"Two images would be {quoted(name)}, but the verdict "
                    f"'{pair.verdict.text}' says that they show two persons."
                )
                return ItemConflict(
                    pair.items, sentence, joined(dropped, (pair.verdict,))
                )
        return None

    def _held_together(self) -> ItemConflict | None:
        """Remove proposals that give two names to images of one person."""
        for pair in self._together:
            names = [self._new(item) for item in pair.items]
            if names[0] == names[1]:
                continue
            dropped = self._drop(pair.items)
            if dropped:
                sentence = (
                    f"Two images would be {' and '.join(map(quoted, names))}, but the "
                    f"verdict '{pair.verdict.text}' says that they show one person."
                )
                return ItemConflict(
                    pair.items, sentence, joined(dropped, (pair.verdict,))
                )
        return None

    def _drop(self, items: Iterable[int]) -> tuple[PairVerdict, ...]:
        """Remove the names of images; return the verdicts behind them."""
        dropped = [fix for item in items for fix in self._single.pop(item, [])]
        return joined(*(fix.verdicts for fix in dropped))

    def _drop_merge(self, name: str) -> tuple[PairVerdict, ...]:
        """Remove the merges into an identity; return the verdicts behind them."""
        dropped = [merge for merge in self._merges if self._merged(merge.first) == name]
        self._merges = [merge for merge in self._merges if merge not in dropped]
        return joined(merge.verdict for merge in dropped)

    # -- results -----------------------------------------------------------------------

    def fixes(self) -> Iterator[ItemFix]:
        """Yield the fixes, after all contradictions are removed."""
        merged: dict[str, list[PairVerdict]] = {}
        for merge in self._merges:
            merged.setdefault(self._merged(merge.first), []).append(merge.verdict)
        for item, old in enumerate(self._labels.names):
            new = self._new(item)
            if new is None or new == old:
                continue
            if item in self._single:
                fixes = self._single[item]
                verdicts = joined(*(fix.verdicts for fix in fixes))
                yield replace(fixes[0], new=new, verdicts=verdicts)
            else:
                reason = f"{quoted(old)} and {quoted(new)} are one person."
                yield ItemFix(item, new, BY_MERGE, reason, joined(merged[new]))
        yield from self._open()

    def _open(self) -> Iterator[ItemFix]:
        """Yield the open fixes."""
        waiting: dict[int, list[ItemVerdict]] = {}
        for pair in self._undecided:
            if self._single.keys().isdisjoint(pair.items):
                for item in pair.items:
                    waiting.setdefault(item, []).append(pair)
        for item, pairs in waiting.items():
            verdicts = joined(pair.verdict for pair in pairs)
            yield ItemFix(item, None, UNDECIDED, self._question(pairs[0]), verdicts)

    def _question(self, pair: ItemVerdict) -> str:
        """Say what a person must decide about a pair."""
        if pair.verdict.text == SAME:
            return (
                "the two images show one person, but it is unknown which name is "
                "right: enter it."
            )
        is_suspected = any(item in self._suspected for item in pair.items)
        reason = (
            "findings do not say which" if is_suspected else "no finding says which"
        )
        return (
            f"one of the two labels is wrong, but {reason}: enter the right identity "
            "here or for the other image, or add 'query: NAME' or 'neighbor: NAME' to "
            "the verdict's note."
        )

    def _new(self, item: int) -> str | None:
        """Return the name of an image after all fixes."""
        if item in self._single:
            return self._merged(str(self._single[item][0].new))
        name = self._labels.person(item)
        return self._labels.names[item] if name is None else self._merged(name)

    def _merged(self, name: str) -> str:
        """Return the name that an identity is merged into."""
        return self._targets.get(name, name)


def merge_targets(
    merges: Iterable[Merge], names: Iterable[str | None]
) -> dict[str, str]:
    """Return the name that each of the merged identities gets."""
    groups: dict[str, set[str]] = {}
    for merge in merges:
        group = groups.get(merge.first, {merge.first}) | groups.get(
            merge.second, {merge.second}
        )
        groups.update(dict.fromkeys(group, group))
    counts = Counter(name for name in names if name in groups)
    return {
        name: min(group, key=lambda member: (-counts[member], member))
        for name, group in groups.items()
    }


def _partner_reason(name: str) -> str:
    return f"it shows the same person as an image of {quoted(name)}."


def joined(*groups: Iterable[PairVerdict]) -> tuple[PairVerdict, ...]:
    """Concatenate verdicts without duplicates."""
    return tuple(dict.fromkeys(verdict for group in groups for verdict in group))


def quoted(name: str | None) -> str:
    """Quote an identity for a sentence, shortened if it is very long."""
    return "nobody" if name is None else f"'{shorten(name, _MOST_CHARACTERS)}'"
