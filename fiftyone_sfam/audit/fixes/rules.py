"""From verdicts on pairs to corrections of single labels.

A verdict is on a pair of images; a fix is about the label of one image. These are the
rules that lead from the one to the other, and there are no others:

1. ``wrong label`` says that one of the two labels is wrong. Which one, and what the
   right one is, says

   a. the verdict's note, if a line of it is ``query: NAME`` or ``neighbor: NAME`` and
      ``NAME`` is an identity of the run;
   b. otherwise the finding of a mislabeled image, if there is one of exactly one of the
      two images: the right identity is the one that it suggests, unless another verdict
      names one. (A finding that rests on a single other image of the label leaves open
      which of these two is wrong, so it suggests none.)

   Otherwise nobody has said it: both images are *open*, that is listed with
   ``new=None``, and nothing is applied until someone writes the right identity into one
   of them. ``look-alike`` on two images of one identity says the same as ``wrong
   label``.
2. ``same person`` on images that do not match by their labels says that they do.

   a. An image without a label gets that of the other; so does a distractor, which
      stands for nobody. Two of them are open, unless one gets a name in another way.
   b. If the label of exactly one of the two is in doubt (there is a finding of it as a
      mislabeled image, or rule 1 has left it open or renamed it), that image gets the
      label of the other. If both are, it is the one for which a finding suggests the
      other's identity; if that is not exactly one either, both are open.
   c. Otherwise the identities are merged: all images of the run that carry one of them
      get the name of the one with more images (of the first in the alphabet, among
      equals). Merges add up: if A is B and B is C, all are one.

3. ``fine`` says that the labels are right: one person in a true match, two in a false
   one. ``look-alike`` says two persons, ``same person`` one. A fix may not contradict
   that.
4. ``background``, ``occlusion`` and own words are about the match, not the labels.

A name that one of the rules gives is replaced by the one that it is merged into.

What contradicts itself is not guessed: two names for one image; a fix that gives one
name to images that a verdict keeps apart, or two names to images that a verdict holds
together. Such fixes are left out, and a :class:`Clash` says why.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fiftyone_sfam.data.text import shorten

WRONG, SAME, APART, FINE = "wrong label", "same person", "look-alike", "fine"
"""The verdicts that say something about labels."""

BY_NOTE = "note"
BY_FINDING = "finding"
BY_PARTNER = "partner"
BY_MERGE = "merge"
UNDECIDED = "undecided"
RULES = (BY_NOTE, BY_FINDING, BY_PARTNER, BY_MERGE, UNDECIDED)
"""Which rule a fix follows: 1a; 1b; 2a or 2b; 2c; none, for the open ones."""

_NAMED = re.compile(r"^\s*(query|neighbor)\s*:\s*(.*?)\s*$", re.IGNORECASE)
_SHOWN = 60


@dataclass(frozen=True)
class Ground:
    """A verdict that a fix rests on."""

    query_id: str  # the pair's images: ids of their samples, or of their detections
    neighbor_id: str  # the pair's images: ids of their samples, or of their detections
    text: str  # the verdict
    note: str = ""  # the verdict


@dataclass(frozen=True)
class Labels:
    """The labels of a run's images."""

    names: Sequence[str | None]  # identity of each image
    distractors: frozenset[str] = frozenset()  # identities that match nobody

    def person(self, item: int) -> str | None:
        """Return whom an image shows by its label; None for nobody in particular."""
        name = self.names[item]
        return None if name in self.distractors else name

    def match(self, one: int, other: int) -> bool:
        """Tell whether two images show one person by their labels."""
        return self.person(one) is not None and self.names[one] == self.names[other]


@dataclass(frozen=True)
class Judged:
    """A verdict on two images."""

    query: int  # the images, indices into the run's items
    neighbor: int  # the images, indices into the run's items
    ground: Ground  # the verdict

    @property
    def items(self) -> tuple[int, int]:
        """Both images."""
        return self.query, self.neighbor

    def other(self, item: int) -> int:
        """Return the other image of the pair."""
        return self.neighbor if item == self.query else self.query


@dataclass(frozen=True)
class Change:
    """A fix, by the index of its image; see ``fixes.Fix``."""

    item: int
    new: str | None
    rule: str
    reason: str
    verdicts: tuple[Ground, ...]


@dataclass(frozen=True)
class Merge:
    """Two identities that a verdict calls one."""

    first: str  # the identities
    second: str  # the identities
    ground: Ground  # the verdict


@dataclass(frozen=True)
class Clash:
    """A conflict, by the indices of its images; see ``fixes.Conflict``."""

    items: tuple[int, ...]
    sentence: str
    verdicts: tuple[Ground, ...]


def derive(
    labels: Labels, verdicts: Sequence[Judged], suspected: Mapping[int, str | None]
) -> tuple[list[Change], list[Clash]]:
    """Derive fixes from verdicts, by the rules of this module."""
    proposals = _Proposals(labels, suspected)
    proposals.read(verdicts)
    clashes = list(proposals.settle())
    return sorted(proposals.changes(), key=lambda one: one.item), clashes


class _Proposals:
    """What the verdicts ask for, until nothing in it contradicts itself."""

    def __init__(self, labels: Labels, suspected: Mapping[int, str | None]) -> None:
        self._labels = labels
        self._suspected = suspected
        self._known = {name for name in labels.names if name is not None}
        # Names for single images; several for one image are a contradiction.
        self._single: dict[int, list[Change]] = {}
        self._merges: list[Merge] = []
        self._targets: dict[str, str] = {}
        self._undecided: list[Judged] = []
        self._together: list[Judged] = []
        self._apart: list[Judged] = []

    # -- what the verdicts ask for -----------------------------------------------------

    def read(self, verdicts: Sequence[Judged]) -> None:
        """Take what the verdicts say; nothing depends on their order."""
        same: list[Judged] = []
        for one in verdicts:
            text, match = one.ground.text, self._labels.match(*one.items)
            persons = [self._labels.person(item) for item in one.items]
            if text == SAME or (text == FINE and match):
                self._together.append(one)
                if not match:
                    same.append(one)
            elif text == APART or (text == FINE and None not in persons):
                self._apart.append(one)
            if text == WRONG or (text == APART and match):
                self._relabel(one)
        doubtful = {item for one in self._undecided for item in one.items}
        doubtful |= {*self._suspected, *self._single}
        for one in same:
            self._join(one, doubtful)
        self._name_the_nameless(same)

    def _relabel(self, one: Judged) -> None:
        """Follow rule 1."""
        named = self._named(one)
        for item, name in named:
            self._propose(item, name, BY_NOTE, "the verdict's note says so.", one)
        if named:
            return
        found = [item for item in one.items if item in self._suspected]
        suggested = self._suspected[found[0]] if len(found) == 1 else None
        if suggested is not None:
            reason = "a finding of this run says that the image is mislabeled."
            self._propose(found[0], suggested, BY_FINDING, reason, one)
        else:
            self._undecided.append(one)

    def _named(self, one: Judged) -> list[tuple[int, str]]:
        """Return the images that the note of a verdict renames, with their names."""
        sides = {"query": one.query, "neighbor": one.neighbor}
        found = []
        for line in one.ground.note.splitlines():
            match = _NAMED.match(line)
            if match is None:
                continue
            item, name = sides[match[1].lower()], match[2]
            if name in self._known and name != self._labels.names[item]:
                found.append((item, name))
        return found

    def _join(self, one: Judged, doubtful: set[int]) -> None:
        """Follow rule 2, but for pairs of nobodies."""
        first, second = (self._labels.person(item) for item in one.items)
        if first is None and second is None:
            return
        if first is None or second is None:
            self._name_after_partner(one.query if first is None else one.neighbor, one)
            return
        found = [item for item in one.items if item in doubtful]
        if not found:
            self._merges.append(Merge(first, second, one.ground))
            return
        if len(found) == 2:
            names = self._labels.names
            found = [
                item
                for item in found
                if self._suspected.get(item) == names[one.other(item)]
            ]
        if len(found) == 1:
            self._name_after_partner(found[0], one)
        else:
            self._undecided.append(one)

    def _name_the_nameless(self, same: Sequence[Judged]) -> None:
        """Follow rule 2 for pairs of nobodies: names spread from one to the next."""
        person = self._labels.person
        waiting = [one for one in same if not any(map(person, one.items))]
        while waiting:
            named = [
                (item, one)
                for one in waiting
                for item in one.items
                if item not in self._single and one.other(item) in self._single
            ]
            if not named:
                break
            for item, one in named:
                if item not in self._single:
                    name = str(self._single[one.other(item)][0].new)
                    self._propose(item, name, BY_PARTNER, _partner(name), one)
        self._undecided += [
            one
            for one in waiting
            if not any(item in self._single for item in one.items)
        ]

    def _name_after_partner(self, item: int, one: Judged) -> None:
        name = str(self._labels.names[one.other(item)])
        self._propose(item, name, BY_PARTNER, _partner(name), one)

    def _propose(
        self, item: int, name: str, rule: str, reason: str, one: Judged
    ) -> None:
        change = Change(item, name, rule, reason, (one.ground,))
        changes = self._single.setdefault(item, [])
        # What a person says comes before what a finding suggests.
        changes.insert(len(changes) if rule == BY_FINDING else 0, change)

    # -- contradictions ----------------------------------------------------------------

    def settle(self) -> Iterator[Clash]:
        """Take out what contradicts itself, until nothing does."""
        while True:
            self._targets = merge_targets(self._merges, self._labels.names)
            clash = self._two_names() or self._kept_apart() or self._held_together()
            if clash is None:
                return
            yield clash

    def _two_names(self) -> Clash | None:
        """Take out an image that is to have two names."""
        for item, changes in self._single.items():
            said = [one for one in changes if one.rule != BY_FINDING] or changes
            names = sorted({self._merged(str(one.new)) for one in said})
            if len(names) > 1:
                sentence = (
                    f"Verdicts give one image {len(names)} names: "
                    f"{', '.join(map(quoted, names))}."
                )
                return Clash((item,), sentence, self._drop((item,)))
        return None

    def _kept_apart(self) -> Clash | None:
        """Take out what gives one name to images that a verdict keeps apart."""
        for one in self._apart:
            name = self._new(one.query)
            if name is None or name != self._new(one.neighbor):
                continue
            grounds = self._drop(one.items)
            if not grounds and not self._labels.match(*one.items):
                grounds = self._drop_merge(name)
            if grounds:
                sentence = (
                    f"Two images would be {quoted(name)}, but the verdict "
                    f"'{one.ground.text}' says that they show two persons."
                )
                return Clash(one.items, sentence, joined(grounds, (one.ground,)))
        return None

    def _held_together(self) -> Clash | None:
        """Take out what gives two names to images that a verdict holds together."""
        for one in self._together:
            names = [self._new(item) for item in one.items]
            if names[0] == names[1]:
                continue
            grounds = self._drop(one.items)
            if grounds:
                sentence = (
                    f"Two images would be {' and '.join(map(quoted, names))}, but the "
                    f"verdict '{one.ground.text}' says that they show one person."
                )
                return Clash(one.items, sentence, joined(grounds, (one.ground,)))
        return None

    def _drop(self, items: Iterable[int]) -> tuple[Ground, ...]:
        """Take the names of images out; return the verdicts behind them."""
        dropped = [one for item in items for one in self._single.pop(item, [])]
        return joined(*(one.verdicts for one in dropped))

    def _drop_merge(self, name: str) -> tuple[Ground, ...]:
        """Take the merges into an identity out; return the verdicts behind them."""
        gone = [one for one in self._merges if self._merged(one.first) == name]
        self._merges = [one for one in self._merges if one not in gone]
        return joined(one.ground for one in gone)

    # -- what comes out ----------------------------------------------------------------

    def changes(self) -> Iterator[Change]:
        """Yield the fixes, when nothing contradicts itself any more."""
        grounds: dict[str, list[Ground]] = {}
        for one in self._merges:
            grounds.setdefault(self._merged(one.first), []).append(one.ground)
        for item, old in enumerate(self._labels.names):
            new = self._new(item)
            if new is None or new == old:
                continue
            if item in self._single:
                changes = self._single[item]
                verdicts = joined(*(one.verdicts for one in changes))
                yield replace(changes[0], new=new, verdicts=verdicts)
            else:
                reason = f"{quoted(old)} and {quoted(new)} are one person."
                yield Change(item, new, BY_MERGE, reason, joined(grounds[new]))
        yield from self._open()

    def _open(self) -> Iterator[Change]:
        """Yield the images of which one has a wrong label that nobody has named."""
        waiting: dict[int, list[Judged]] = {}
        for one in self._undecided:
            if not any(item in self._single for item in one.items):
                for item in one.items:
                    waiting.setdefault(item, []).append(one)
        for item, judged in waiting.items():
            verdicts = joined(one.ground for one in judged)
            yield Change(item, None, UNDECIDED, self._question(judged[0]), verdicts)

    def _question(self, one: Judged) -> str:
        """Say what has to be said about a pair."""
        if one.ground.text == SAME:
            return (
                "the two images show one person, and nothing says whose name is right: "
                "give it."
            )
        known = sum(item in self._suspected for item in one.items)
        why = "no finding says which" if not known else "the findings leave open which"
        return (
            f"one of the two labels is wrong, and {why}: give the right identity here "
            "or at the other image, or write 'query: NAME' or 'neighbor: NAME' into "
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
    """Find the name that each of the merged identities gets."""
    groups: dict[str, set[str]] = {}
    for one in merges:
        group = groups.get(one.first, {one.first}) | groups.get(
            one.second, {one.second}
        )
        groups.update(dict.fromkeys(group, group))
    counts = Counter(name for name in names if name in groups)
    return {
        name: min(group, key=lambda member: (-counts[member], member))
        for name, group in groups.items()
    }


def _partner(name: str) -> str:
    return f"it shows the same person as an image of {quoted(name)}."


def joined(*groups: Iterable[Ground]) -> tuple[Ground, ...]:
    """Put verdicts together, each once, in order."""
    return tuple(dict.fromkeys(one for group in groups for one in group))


def quoted(name: str | None) -> str:
    """Show an identity in a sentence, shortened where it is very long."""
    return "nobody" if name is None else f"'{shorten(name, _SHOWN)}'"
