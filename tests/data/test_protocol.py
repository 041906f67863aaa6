"""Rules of a retrieval: what they accept, how they are stored and spelled."""

import json

import pytest

from fiftyone_sfam import Protocol, Within
from fiftyone_sfam.data.protocol import parse_rule, rule_name
from fiftyone_sfam.errors import DataError

RULES = Protocol(
    "identity",
    camera_field="camera",
    junk=[-1, 7.0],
    exclude=[("identity", "clothes"), ["encounter"], (Within("date", hours=36),)],
    query_field="is_query",
    gallery_shots=1,
    gallery_per=["identity", "camera"],
    seed=3,
)


def test_rules_survive_json() -> None:
    stored = json.loads(json.dumps(RULES.to_dict()))
    assert stored["exclude"] == [
        ["identity", "clothes"],
        ["encounter"],
        [{"field": "date", "seconds": 129600.0}],
    ]
    assert stored["gallery_per"] == ["identity", "camera"]
    assert Protocol.from_dict(stored) == RULES
    assert RULES.junk == ("-1", "7")
    assert RULES.rules == (("identity", "camera"), *RULES.exclude)


def test_rules_of_earlier_versions_are_stored_as_before() -> None:
    assert list(Protocol("identity", camera_field="camera").to_dict()) == [
        *("identity_field", "camera_field", "exclude_same_camera", "junk"),
        *("distractors", "split_field", "query_value", "gallery_value"),
        *("exclude_self", "exclude_duplicates"),
    ]


def test_galleries_are_drawn_per_identity_by_default() -> None:
    rules = Protocol("name", gallery_shots=1, gallery_per=("name",))
    assert rules == Protocol("name", gallery_shots=1)
    assert "gallery_per" not in rules.to_dict()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("identity, clothes", ("identity", "clothes")),
        ("encounter", ("encounter",)),
        ("date:1.5h", (Within("date", seconds=5400),)),
        ("identity,date:2d", ("identity", Within("date", days=2))),
    ],
)
def test_rules_are_read_as_they_are_spelled(text: str, rule: tuple) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(rule_name(rule)) == rule


def test_a_rule_is_named_with_the_longest_unit() -> None:
    rule = ("identity", Within("date", hours=48), Within("seen", minutes=1, seconds=30))
    assert rule_name(rule) == "identity,date:2d,seen:90s"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"exclude": "clothes"}, "exclude is 'clothes'; give a list of rules"),
        ({"exclude": ["clothes"]}, r"each rule is a list of fields, .* \('clothes',\)"),
        ({"exclude": [()]}, r"the rule \(\) is empty"),
        ({"exclude": [("a", "a")]}, "names a field twice"),
        ({"exclude": [("a", Within("a", days=1))]}, "names a field twice"),
        ({"exclude": [("a", 3)]}, "has the term 3; give the name of a field"),
        ({"camera_field": ["camera", "clothes"]}, r'exclude=\[\("identity", "clothes'),
        ({"query_field": True}, "query_field is True; give the name of a field"),
        ({"split_field": "split", "gallery_field": "g"}, "give one or the other"),
        ({"gallery_shots": 0, "identity_field": "i"}, "gallery_shots is 0"),
        ({"gallery_shots": 1}, "gallery_shots needs identity_field"),
        (
            {"gallery_per": ("i",), "identity_field": "i"},
            "gallery_per needs gallery_sh",
        ),
        (
            {"gallery_per": ["c"], "identity_field": "i", "gallery_shots": 1},
            r"gallery_per \('c',\) is without the identity field 'i'; add it",
        ),
        ({"gallery_per": "i"}, r"gallery_per is 'i'; give a list of fields, such as"),
        ({"gallery_per": ["i", "i"]}, "names a field twice; give each field once"),
        ({"draws": 0}, "draws is 0; give a whole number from 1"),
        ({"seed": -1}, "seed is -1; give a whole number from 0"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(rules: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Protocol(**rules)


@pytest.mark.parametrize("span", [{}, {"days": -1}, {"seconds": float("nan")}])
def test_a_span_has_to_be_positive(span: dict) -> None:
    with pytest.raises(DataError, match="give a positive one, such as days=1"):
        Within("date", **span)


@pytest.mark.parametrize("text", ["", "identity,,clothes", ","])
def test_a_rule_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="a term without a name"):
        parse_rule(text)
