"""Rules of a protocol against a double loop over the values themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation_support import identify, verify
from fiftyone_sfam import Protocol, Within
from fiftyone_sfam.audit.evaluation.blocks import compare
from fiftyone_sfam.audit.evaluation.galleries import RANKS, measure_galleries
from fiftyone_sfam.data.protocol import Rule
from fiftyone_sfam.data.terms import read_term
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.matches import check_rules, possible_matches
from fiftyone_sfam.retrieval.search import Candidates, find_neighbors, select_candidates

START = datetime(2024, 5, 31, 22)
HOURS = [None, 0, 1, 2, 3, 26]
VALUES: dict[str, list[Any]] = {
    "identity": [None, "a", "b", "b", "c", "extra", "junk"],
    "camera": [None, "1", "2"],
    "clothes": [None, "red", "blue"],
    "encounter": [None, "x", "y", "z"],
    "time": [
        None if hours is None else START + timedelta(hours=hours) for hours in HOURS
    ],
}
RULES: list[Rule] = [
    ("identity", "camera"),
    ("identity", "clothes"),
    ("encounter",),
    ("camera", "clothes"),
    ("time",),
    ("identity", "time"),
    (Within("time", hours=1),),
    ("camera", Within("time", hours=2)),
    ("identity", Within("time", days=1), "clothes"),
]

PER = [(), ("identity",), ("identity", "camera"), ("time", "clothes", "identity")]


@dataclass(frozen=True)
class World:
    """Images with random labels, and rules for them."""

    columns: dict[str, list[Any]]
    embeddings: np.ndarray
    protocol: Protocol
    candidates: Candidates

    def left_out(self, query: int, other: int) -> bool:
        """By the definition: one value after the other."""
        if query == other:
            return True
        rules = self.rules()
        return any(all(self._holds(t, query, other) for t in rule) for rule in rules)

    def rules(self) -> list[Rule]:
        camera = [("identity", "camera")] if self.protocol.camera_field else []
        return [*self.protocol.exclude, *camera]

    def verification(self) -> tuple[list[float], list[float]]:
        """Scores of pairs of one identity and of two; rules of one hold for both."""
        rest = [
            [term for term in rule if term != "identity"]
            for rule in self.rules()
            if "identity" in rule
        ]
        unit = self.embeddings / np.linalg.norm(self.embeddings, axis=1)[:, None]
        scores: tuple[list[float], list[float]] = [], []
        seen = set()
        for query, ranking in self.rankings.items():
            for other in ranking:
                names = {self.columns["identity"][item] for item in (query, other)}
                apart = any(
                    all(self._holds(t, query, other) for t in terms) for terms in rest
                )
                if None not in names and not apart and {query, other} not in seen:
                    seen.add(frozenset((query, other)))
                    kind = scores[0 if self.match(query, other) else 1]
                    kind.append(float(unit[query] @ unit[other]))
        return scores

    def _holds(self, term: str | Within, query: int, other: int) -> bool:
        column = self.columns[term.field if isinstance(term, Within) else term]
        mine, its = column[query], column[other]
        if mine is None or its is None:
            return False
        if isinstance(term, Within):
            return abs(mine - its) <= timedelta(seconds=term.seconds)
        if isinstance(mine, datetime):
            return mine.date() == its.date()
        return bool(mine == its)

    def match(self, query: int, other: int) -> bool:
        mine, its = self.columns["identity"][query], self.columns["identity"][other]
        return mine is not None and mine == its != "extra"

    def drawn_with(self, one: int, other: int) -> bool:
        """Whether random galleries take images of the two together."""
        per = self.protocol.gallery_per or ("identity",)
        return all(self._holds(name, one, other) for name in per)

    @cached_property
    def rankings(self) -> dict[int, list[int]]:
        """The gallery of each query, nearest first."""
        return {query: self._ranking(query) for query in self.candidates.queries}

    def _ranking(self, query: int) -> list[int]:
        vectors = self.embeddings
        near = vectors @ vectors[query]
        near = near / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[query])
        kept = [o for o in self.candidates.gallery if not self.left_out(query, o)]
        return sorted(kept, key=lambda other: (-round(near[other], 12), other))


def candidates_of(
    columns: dict[str, list[Any]],
    protocol: Protocol,
    splits: list[frozenset[str]] | None = None,
) -> Candidates:
    terms = {
        str(term): read_term(
            term, columns[term.field if isinstance(term, Within) else term]
        )
        for rule in (*protocol.exclude, protocol.gallery_per)
        for term in rule
        if term not in ("identity", protocol.camera_field)
    }
    cameras = columns.get("camera") if protocol.camera_field else None
    identities = columns["identity"]
    return select_candidates(
        protocol, identities, cameras or [None] * len(identities), splits, terms
    )


def world_of(seed: int, count: int, rules: list[Rule], **options: Any) -> World | None:
    """Draw a world; None if nobody is left to compare."""
    generator = np.random.default_rng(seed)
    columns = {
        name: [values[n] for n in generator.integers(0, len(values), count)]
        for name, values in VALUES.items()
    }
    splits = None
    if options.pop("roles"):
        options |= {"query_field": "is_query", "gallery_field": "is_gallery"}
        choices = [{"query"}, {"gallery"}, {"query", "gallery"}]
        splits = [frozenset(choices[n]) for n in generator.integers(0, 3, count)]
    present = set(columns["identity"])
    protocol = Protocol(
        "identity",
        exclude=rules,
        junk=[name for name in ("junk",) if name in present],
        distractors=[name for name in ("extra",) if name in present],
        **options,
    )
    try:
        candidates = candidates_of(columns, protocol, splits)
    except DataError:
        return None
    # Numbers without ties, whose order rounding cannot change.
    return World(columns, generator.normal(size=(count, 3)), protocol, candidates)


@settings(max_examples=1000, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 14),
    rules=st.lists(st.sampled_from(RULES), max_size=3),
    camera=st.sampled_from([None, "camera"]),
    roles=st.booleans(),
    shots=st.integers(1, 2),
    per=st.sampled_from(PER),
)
def test_equal_a_double_loop(
    seed: int,
    count: int,
    rules: list[Rule],
    camera: str | None,
    roles: bool,
    shots: int,
    per: tuple[str, ...],
) -> None:
    world = world_of(
        seed,
        count,
        rules,
        camera_field=camera,
        roles=roles,
        gallery_shots=shots,
        gallery_per=per,
        draws=2,
    )
    if world is None:
        return
    candidates, protocol = world.candidates, world.protocol
    queries, gallery = candidates.queries.tolist(), candidates.gallery.tolist()
    out = candidates.left_out(candidates.queries, protocol)
    assert out.tolist() == [[world.left_out(q, o) for o in gallery] for q in queries]

    matches = {
        query: [
            place
            for place, other in enumerate(world.rankings[query], start=1)
            if world.match(query, other)
        ]
        for query in queries
    }
    possible = possible_matches(candidates, protocol)
    assert possible.tolist() == [bool(matches[query]) for query in queries]

    ranked = identify(world.embeddings, candidates, protocol)
    assert ranked.query.tolist() == [query for query in queries if matches[query]]
    for row, query in enumerate(ranked.query.tolist()):
        ranks = matches[query]
        precisions = [(n + 1) / rank for n, rank in enumerate(ranks)]
        assert ranked.first_match[row] == ranks[0]
        assert ranked.average_precision[row] == pytest.approx(np.mean(precisions))
        assert ranked.inverse_negative_penalty[row] == len(ranks) / ranks[-1]
    labeled = [query for query in queries if world.columns["identity"][query]]
    assert ranked.without_match == len(labeled) - len(ranked.query)

    genuine, impostor = world.verification()
    scores = verify(world.embeddings, candidates, protocol)
    assert scores.genuine == pytest.approx(sorted(genuine), abs=1e-7)
    assert scores.impostor == pytest.approx(sorted(impostor), abs=1e-7)

    found = find_neighbors(world.embeddings, candidates, protocol, 1)
    assert found.true_rank.tolist() == [(matches[q] or [0])[0] for q in queries]
    check_galleries(world, shots)


def check_galleries(world: World, shots: int) -> None:
    """Compare random galleries with drawing image by image."""
    candidates, protocol = world.candidates, world.protocol
    found = measure_galleries(compare(world.embeddings, candidates, protocol))
    for draw in range(2):
        order = np.random.default_rng((protocol.seed, draw))
        turn = order.permutation(len(candidates.gallery))
        turns = dict(zip(candidates.gallery.tolist(), turn.tolist(), strict=True))
        precisions, firsts = [], []
        for query in candidates.queries.tolist():
            ranking, kept = world.rankings[query], []
            for other in ranking:
                name = world.columns["identity"][other]
                rivals = [o for o in ranking if world.drawn_with(o, other)]
                ahead = sum(turns[rival] < turns[other] for rival in rivals)
                if name in (None, "extra") or ahead < shots:
                    kept.append(other)
            ranks = [n + 1 for n, o in enumerate(kept) if world.match(query, o)]
            if ranks:
                assert len(ranks) <= shots or protocol.gallery_per
                precisions.append(np.mean([(n + 1) / r for n, r in enumerate(ranks)]))
                firsts.append(ranks[0])
        if firsts:
            rates = [np.mean(np.array(firsts) <= rank) for rank in range(1, RANKS + 1)]
            assert found.cmc[draw] == pytest.approx(rates)
            assert found.mean_average_precision[draw] == pytest.approx(
                np.mean(precisions)
            )


# --------------------------------------------------------------------------------------
# The official definitions of data sets
# --------------------------------------------------------------------------------------


def distances(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.random.default_rng(seed).normal(size=(count, 4))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return vectors, 1 - vectors @ vectors.T


@pytest.mark.parametrize("seed", range(20))
def test_sysu_mm01_leaves_out_the_place_of_cameras_2_and_3(seed: int) -> None:
    generator = np.random.default_rng(seed)
    people = generator.integers(0, 8, 60)
    cameras = generator.integers(1, 7, 60)
    vectors, distance = distances(seed, 60)
    # Infrared cameras are queries, the others the gallery. For a query from camera 3,
    # the images of camera 2, which stands at the same place, are taken out.
    queries, gallery = (
        np.flatnonzero(np.isin(cameras, c)) for c in ([3, 6], [1, 2, 4, 5])
    )
    precisions, firsts = [], []
    for query in queries:
        order = gallery[np.argsort(distance[query, gallery], kind="stable")]
        remove = (cameras[query] == 3) & (cameras[order] == 2)
        matches = (people[order] == people[query])[~remove]
        if not matches.any():
            continue
        precision = np.cumsum(matches) / np.arange(1, len(matches) + 1)
        precisions.append((precision * matches).sum() / matches.sum())
        firsts.append(matches[0])

    roles = [frozenset({"query" if c in (3, 6) else "gallery"}) for c in cameras]
    protocol = Protocol(
        "identity",
        query_field="infrared",
        gallery_field="visible",
        exclude=[("place",)],
    )
    place = {1: "1", 2: "2+3", 3: "2+3", 4: "4", 5: "5", 6: "6"}
    columns = {
        "identity": [f"{one}" for one in people],
        "place": [place[c] for c in cameras],
    }
    candidates = candidates_of(columns, protocol, roles)
    ranked = identify(vectors, candidates, protocol)
    assert ranked.cmc(1)[0] == pytest.approx(np.mean(firsts))
    assert ranked.mean_average_precision == pytest.approx(np.mean(precisions))


@pytest.mark.parametrize("shots", [1, 10])
@pytest.mark.parametrize("seed", range(10))
def test_sysu_mm01_draws_images_per_identity_and_camera(seed: int, shots: int) -> None:
    """Its ten trials, single-shot and multi-shot, with the order of our own draws.

    In each trial the gallery has the first images of a random order of every identity
    in every visible camera, the same for all queries; queries from camera 3 then skip
    those from camera 2. Rank-1 and mAP are means over the trials.
    """
    generator = np.random.default_rng(seed)
    people = generator.integers(0, 5, 300)
    cameras = generator.integers(1, 7, 300)
    vectors, distance = distances(seed, 300)
    queries = np.flatnonzero(np.isin(cameras, [3, 6]))
    visible = np.flatnonzero(np.isin(cameras, [1, 2, 4, 5]))
    rank1, precision = [], []
    for trial in range(10):
        turn = np.random.default_rng((7, trial)).permutation(len(visible))
        order = visible[np.argsort(turn)]
        drawn = [
            order[(people[order] == person) & (cameras[order] == camera)][:shots]
            for person in np.unique(people)
            for camera in (1, 2, 4, 5)
        ]
        trial_gallery = np.sort(np.concatenate(drawn))
        firsts, precisions = [], []
        for query in queries:
            near = np.argsort(distance[query, trial_gallery], kind="stable")
            ranking = trial_gallery[near]
            if cameras[query] == 3:
                ranking = ranking[cameras[ranking] != 2]
            hits = people[ranking] == people[query]
            if hits.any():
                places = np.flatnonzero(hits) + 1
                precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
                firsts.append(hits[0])
        rank1.append(np.mean(firsts))
        precision.append(np.mean(precisions))

    roles = [frozenset({"query" if c in (3, 6) else "gallery"}) for c in cameras]
    protocol = Protocol(
        "identity",
        camera_field="camera",
        split_field="split",
        exclude=[("place",)],
        gallery_shots=shots,
        gallery_per=("identity", "camera"),
        seed=7,
    )
    columns = {
        "identity": [f"{one}" for one in people],
        "camera": [f"{one}" for one in cameras],
        "place": [f"{2 if one == 3 else one}" for one in cameras],
    }
    candidates = candidates_of(columns, protocol, roles)
    found = measure_galleries(compare(vectors, candidates, protocol))
    assert found.per == ("identity", "camera")
    np.testing.assert_allclose(found.cmc[:, 0], rank1)
    np.testing.assert_allclose(found.mean_average_precision, precision)
    assert len(set(rank1)) > 1
    # Drawing per identity alone is another protocol.
    other = replace(protocol, gallery_per=())
    alone = measure_galleries(
        compare(vectors, candidates_of(columns, other, roles), other)
    )
    assert alone.mean_average_precision.mean() != pytest.approx(np.mean(precision))


@pytest.mark.parametrize("seed", range(20))
def test_cloth_changing_leaves_out_the_same_camera_or_clothes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    people, cameras, clothes = (generator.integers(0, n, 60) for n in (6, 3, 2))
    # Numbered per person, as PRCC and LTCC do: everybody has clothes of their own.
    clothes = people * 2 + clothes
    vectors, distance = distances(seed, 60)
    queries, gallery = np.arange(25), np.arange(25, 60)
    precisions, firsts = [], []
    for query in queries:
        # Places in the gallery, as the authors of these data sets name them.
        of_person = np.flatnonzero(people[gallery] == people[query])
        of_camera = np.flatnonzero(cameras[gallery] == cameras[query])
        of_clothes = np.flatnonzero(clothes[gallery] == clothes[query])
        good = np.setdiff1d(np.setdiff1d(of_person, of_camera), of_clothes)
        junk = np.union1d(
            np.intersect1d(of_person, of_camera), np.intersect1d(of_person, of_clothes)
        )
        if good.size == 0:
            continue
        index = np.argsort(distance[query, gallery], kind="stable")
        index = index[~np.isin(index, junk)]
        rows = np.flatnonzero(np.isin(index, good))
        precisions.append(np.mean((np.arange(len(good)) + 1) / (rows + 1)))
        firsts.append(rows[0] == 0)

    roles = [frozenset({"query" if n < 25 else "gallery"}) for n in range(60)]
    protocol = Protocol(
        "identity",
        camera_field="camera",
        split_field="split",
        exclude=[("identity", "clothes")],
    )
    columns = {
        "identity": [f"{one}" for one in people],
        "camera": [f"{one}" for one in cameras],
        "clothes": [f"{one}" for one in clothes],
    }
    candidates = candidates_of(columns, protocol, roles)
    ranked = identify(vectors, candidates, protocol)
    assert ranked.cmc(1)[0] == pytest.approx(np.mean(firsts))
    assert ranked.mean_average_precision == pytest.approx(np.mean(precisions))


def test_single_gallery_shot_averages_to_what_chance_gives() -> None:
    # From 0 degrees, a's images are at 10 and 50, b's at 20 and 40. Of the four
    # galleries with an image of each, a is first in the two with the image at 10.
    angles = np.deg2rad([0, 10, 50, 20, 40])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    protocol = Protocol(
        "identity", split_field="split", gallery_shots=1, draws=1000, seed=7
    )
    roles = [frozenset({"query"}), *[frozenset({"gallery"})] * 4]
    candidates = candidates_of({"identity": list("aaabb")}, protocol, roles)
    found = measure_galleries(compare(vectors, candidates, protocol))
    assert found.cmc.shape == (1000, RANKS)
    # Four standard errors of a mean of 1,000 draws of 0 or 1.
    assert found.cmc[:, 0].mean() == pytest.approx(1 / 2, abs=4 * 0.5 / 1000**0.5)
    assert (found.cmc[:, 1] == 1).all()
    assert found.mean_average_precision.mean() == pytest.approx(3 / 4, abs=0.032)
    again = measure_galleries(compare(vectors, candidates, protocol))
    np.testing.assert_array_equal(again.cmc, found.cmc)


# --------------------------------------------------------------------------------------
# What is said before a run
# --------------------------------------------------------------------------------------


def said(columns: dict[str, list[Any]], **rules: Any) -> tuple[str, ...]:
    protocol = Protocol("identity", **rules)
    return check_rules(candidates_of(columns, protocol), protocol)


def test_rules_that_leave_matches_are_not_mentioned() -> None:
    columns = {"identity": list("aabb"), "camera": ["1", "2", "1", "1"]}
    assert said(columns, camera_field="camera") == ()
    assert said({"identity": [None] * 3}) == ()


def test_one_camera_leaves_no_match_to_find() -> None:
    columns = {"identity": list("aabb"), "camera": ["1"] * 4}
    [text] = said(columns, camera_field="camera")
    assert "identity,camera" in text
    assert "leaves out every true match of all 4 labeled queries" in text
    assert said(columns, camera_field="camera", exclude_same_camera=False) == ()


def test_rules_that_leave_no_match_only_together_are_all_named() -> None:
    columns = {
        "identity": ["a"] * 3 + ["b"],
        "camera": ["1", "1", "2", "3"],
        "clothes": ["red", "blue", "red", "red"],
        "day": ["mon", "tue", "tue", "mon"],
    }
    rules = [("identity", "camera"), ("identity", "clothes"), ("identity", "day")]
    [text] = said(columns, exclude=rules)
    assert "the rules " in text
    assert "together leave out every true match" in text
    assert all(",".join(rule) in text for rule in rules)


def test_one_image_per_identity_is_not_blamed_on_the_rules() -> None:
    columns = {"identity": list("abc"), "camera": ["1"] * 3}
    [text] = said(columns, camera_field="camera")
    assert "none of the 3 labeled queries has another image of its identity" in text


def test_a_single_identity_is_mentioned() -> None:
    [text] = said({"identity": ["a"] * 5})
    assert text.startswith("all 5 images have the same identity (field 'identity')")


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ([("place",)], "the rule \u2068place\u2069 leaves out every gallery image"),
        (
            [("place",), ("place", "season")],
            "each of the rules \u2068place\u2069 and \u2068place,season\u2069 leaves ",
        ),
    ],
)
def test_rules_that_leave_nothing_are_refused_by_name(
    rules: list[Rule], named: str
) -> None:
    columns = {"identity": list("aab"), "place": ["p"] * 3, "season": ["s"] * 3}
    with pytest.raises(DataError) as error:
        said(columns, exclude=rules)
    assert named in str(error.value)
