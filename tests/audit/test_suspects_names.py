"""How alike names are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_sfam.audit.suspects.finding import split_sentence
from fiftyone_sfam.audit.suspects.names import (
    ABBREVIATED,
    FAMILY,
    LIKENESSES,
    LONGER,
    REORDERED,
    SAME_WORDS,
    SPELLED_ALIKE,
    Names,
    likeness_of,
    words_of,
)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("José Pérez", "jose_perez", SAME_WORDS),
        ("Anna-Lena Berg", "Anna Lena Berg 02", SAME_WORDS),
        ("Li Wei", "Wei Li", REORDERED),
        ("Berg, Anna", "Anna Berg", REORDERED),
        ("J. Smith", "John Smith", ABBREVIATED),
        ("John R. Smith", "John Robert Smith", ABBREVIATED),
        ("Anna Maria Berg", "Anna Berg", LONGER),
        ("Jon Smith", "John Smith", SPELLED_ALIKE),
        ("Mohammed Rahman", "Mohamed Rahman", SPELLED_ALIKE),
        ("Catherine Doe", "Katherine Doe", SPELLED_ALIKE),
        ("Anna Berg", "Carl Berg", FAMILY),
        ("Anna Berg", "Carl Dahl", None),
        # A letter is not a name, and two letters may be any two.
        ("A B", "A C", None),
        ("J. Li", "K. Li", None),
        ("0012", "0013", None),
        ("Berg", "Anna Dahl", None),
    ],
)
def test_ways_of_being_alike(first: str, second: str, kind: str | None) -> None:
    assert likeness_of(words_of(first), words_of(second)) == kind
    assert likeness_of(words_of(second), words_of(first)) == kind


@given(st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_likeness_does_not_depend_on_the_order_of_names(
    words: list[str], data: st.DataObject
) -> None:
    other = data.draw(st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
    assert likeness_of(words, other) == likeness_of(other, words)
    if words:
        assert likeness_of(words, words) == SAME_WORDS


def test_the_chance_of_a_likeness_is_that_of_the_collection() -> None:
    people = tuple(
        f"{first} {last}"
        for first in ("Anna", "Carl", "Dora", "Emil", "Fred")
        for last in ("Berg", "Nygaard", "Holm", "Quist")
    )
    names = Names((*people, "Berg Anna"))
    reordered = names.likeness(0, len(people))
    assert reordered is not None
    assert reordered.kind == REORDERED
    # One pair of 210, and 4 of 19 others share the last word.
    assert reordered.chance == pytest.approx(1 / 210, rel=0.3)
    family = names.likeness(0, 4)
    assert family is not None
    assert family.kind == FAMILY
    assert family.chance == pytest.approx(41 / 210, rel=0.1)
    assert LIKENESSES.index(REORDERED) < LIKENESSES.index(FAMILY)


@pytest.mark.parametrize("names", [("1", "2", "21"), ("c1", "c2", "c3"), ()])
def test_numbers_are_no_names(names: tuple[str, ...]) -> None:
    found = Names(names)
    assert not found.are_names
    assert all(found.likeness(0, place) is None for place in range(1, len(names)))


def test_numbered_labels_are_as_much_alike_as_any_other_two() -> None:
    names = Names(tuple(f"person_{number:02}" for number in range(20)))
    likeness = names.likeness(3, 4)
    assert likeness is not None
    assert likeness.chance == 1


def test_the_sentence_says_how_names_are_alike() -> None:
    evidence: dict[str, float | str] = {
        "above": 4.5,
        "between": 0.7,
        "first_images": 3.0,
        "second_images": 4.0,
    }
    names = "Anna Berg", "Berg, Anna"
    plain = split_sentence(names, evidence, "cosine")
    assert plain.endswith("4 images of Berg, Anna.")
    alike = split_sentence(names, {**evidence, "names_alike": REORDERED}, "cosine")
    assert alike == (
        plain[:-1] + "; their names are alike: the same words in another order."
    )
