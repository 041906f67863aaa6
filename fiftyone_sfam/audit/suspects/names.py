"""How alike two names of identities are, as a reason to take them for one person.

Names are compared by words: lower case, without accents and punctuation. Labels without
letters, such as numbers, are not names, and words that are only digits are ignored. How
much a likeness says depends on the collection: among 5,000 people many share a family
name by chance. So each likeness comes with the share of random pairs of names in the
collection that are at least as much alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from rapidfuzz.distance import OSA

SAME_WORDS = "the same words, but for accents, case or punctuation"
REORDERED = "the same words in another order"
ABBREVIATED = "one abbreviates the other"
LONGER = "one has all words of the other"
SPELLED_ALIKE = "spelled nearly the same"
FAMILY = "the same last word"

LIKENESSES = (SAME_WORDS, REORDERED, ABBREVIATED, LONGER, SPELLED_ALIKE, FAMILY)
"""Ways in which names may be alike, the strongest first."""

# Share of the letters of each word that may be wrong, as a similarity.
_SPELLING = 0.75
# Least length of a word that may be misspelled or shared.
_LEAST_LETTERS = 3
# Random pairs of names of which the shares are estimated.
_RANDOM_PAIRS = 20_000


@dataclass(frozen=True)
class NameLikeness:
    """How two names are alike.

    Attributes
    ----------
    kind : str
        One of :data:`LIKENESSES`.
    chance : float
        Share of random pairs of names of the collection that are at least as much
        alike, above 0.
    """

    kind: str
    chance: float


@dataclass(frozen=True)
class Names:
    """The names of a collection's identities.

    Parameters
    ----------
    names : tuple of str
        One per identity.

    Examples
    --------
    >>> names = Names(("Anna Berg", "Berg_Anna", "Carl Dahl", "Eva Falk"))
    >>> names.likeness(0, 1).kind
    'the same words in another order'
    >>> names.likeness(0, 2) is None
    True
    """

    names: tuple[str, ...]

    @cached_property
    def are_names(self) -> bool:
        """Whether at least half of the labels have a word of two letters or more."""
        named = sum(any(len(word) > 1 for word in words) for words in self._words)
        return 2 * named >= len(self.names) > 0

    @cached_property
    def _words(self) -> list[tuple[str, ...]]:
        return [words_of(name) for name in self.names]

    @cached_property
    def _chances(self) -> dict[str, float]:
        """Share of random pairs that are at least as much alike, by kind."""
        count = len(self.names)
        generator = np.random.default_rng(0)
        pairs = generator.integers(0, count, (_RANDOM_PAIRS, 2))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        found = dict.fromkeys(LIKENESSES, 0)
        for first, second in pairs.tolist():
            kind = likeness_of(self._words[first], self._words[second])
            if kind is not None:
                found[kind] += 1
        totals = np.cumsum([found[kind] for kind in LIKENESSES])
        return {
            kind: (int(total) + 1) / (len(pairs) + 1)
            for kind, total in zip(LIKENESSES, totals, strict=True)
        }

    def likeness(self, first: int, second: int) -> NameLikeness | None:
        """Compare two names by their places; None if nothing is alike."""
        if not self.are_names:
            return None
        kind = likeness_of(self._words[first], self._words[second])
        return None if kind is None else NameLikeness(kind, self._chances[kind])


def words_of(name: str) -> tuple[str, ...]:
    """Split a name into its words: lower case, without accents, digits and signs.

    Examples
    --------
    >>> words_of("José_María-Pérez 0012")
    ('jose', 'maria', 'perez')
    """
    plain = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return tuple(word for word in re.split(r"[\W_\d]+", plain) if word)


def likeness_of(first: Sequence[str], second: Sequence[str]) -> str | None:
    """Return how the words of two names are alike, or None.

    Examples
    --------
    >>> likeness_of(("anna", "berg"), ("a", "berg"))
    'one abbreviates the other'
    >>> likeness_of(("anna", "berg"), ("ana", "berg"))
    'spelled nearly the same'
    >>> likeness_of(("anna", "berg"), ("carl", "berg"))
    'the same last word'
    """
    if not first or not second:
        return None
    if tuple(first) == tuple(second):
        return SAME_WORDS
    if sorted(first) == sorted(second):
        return REORDERED
    fewer, more = sorted((first, second), key=len)
    shared = {*fewer} & {*more}
    long_shared = any(len(word) >= _LEAST_LETTERS for word in shared)
    if long_shared and _abbreviates(fewer, more):
        return ABBREVIATED
    if 2 <= len(fewer) < len(more) and not Counter(fewer) - Counter(more):
        return LONGER
    if len(first) == len(second) and (
        _are_misspelled(first, second) or _are_misspelled(sorted(first), sorted(second))
    ):
        return SPELLED_ALIKE
    if first[-1] == second[-1] and len(first[-1]) >= _LEAST_LETTERS:
        return FAMILY
    return None


def _abbreviates(fewer: Sequence[str], more: Sequence[str]) -> bool:
    """Return whether names agree but for words of which one has the initial only."""
    if len(fewer) != len(more):
        return False
    return all(
        one == other or (min(len(one), len(other)) == 1 and one[0] == other[0])
        for one, other in zip(fewer, more, strict=True)
    )


def _are_misspelled(first: Sequence[str], second: Sequence[str]) -> bool:
    """Return whether words differ by few letters, one by one."""
    return all(
        one == other
        or (
            min(len(one), len(other)) >= _LEAST_LETTERS
            and OSA.normalized_similarity(one, other) >= _SPELLING
        )
        for one, other in zip(first, second, strict=True)
    )
