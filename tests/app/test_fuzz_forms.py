"""Parameters of forms and arguments of commands, whatever they are.

A form's own check can be left out by a request that is made by hand, so operators see
anything that JSON can hold.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators import types
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_sfam.app.forms.parameters import Parameters
from fiftyone_sfam.app.operators.apply_verdicts import VerdictParameters
from fiftyone_sfam.app.operators.evaluate_retrieval import EvaluationParameters
from fiftyone_sfam.app.operators.show_pairs import PairParameters
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, SfamError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.runs.run import load_run
from fuzzing import anything, fuzz
from operator_support import PLUGIN, context
from worlds import fill, tiny_model

OPERATORS = (
    "apply_verdicts",
    "check_faithfulness",
    "compare_runs",
    "decide_pairs",
    "evaluate_retrieval",
    "explain_pairs",
    "explain_regions",
    "explain_retrieval",
    "explain_selected",
    "find_suspects",
    "manage_runs",
    "show_pairs",
    "verify_pairs",
    "write_report",
)
EVIL = Path(__file__).parent / "nothing-that-exists.py"
TEXTS = st.sampled_from(
    [
        *("", " ", "sfam", "identity", "camera", "split", "tags", "id", "filepath"),
        *("metadata", "sfam_neighbors", "sfam_score", "demo", "auto", "none"),
        *("show", "rename", "apply", "undo", "view", "index", "field", "compute"),
        *("evidence", "path", "true match", "0.1, 0.01", "1e-999", "nan", "-1"),
        *("../../etc/passwd", "/etc/passwd", "os:system", f"{EVIL}:build", "a\0b"),
        *("$where", "a.b.c", "__class__", "<script>", "人", "x" * 300, "\ud800"),
    ]
) | st.text(max_size=8)


ANYTHING = anything(TEXTS)
KINDS: dict[st.SearchStrategy[Any], tuple[str, ...]] = {
    TEXTS: (
        *("action", "brain_key", "camera_field", "cameras", "change", "contributions"),
        *("distractors", "exclude", "query_field", "gallery_field"),
        *("embeddings_field", "embeddings_from", "fars", "field", "fill"),
        *("gallery_value", "identity_field", "junk", "keep_index", "key", "kind"),
        *("model", "new_key", "outcome", "patches_field", "query_value", "region"),
        *("region_field", "show", "side", "split_field", "undo_field", "weights"),
        *("target", "view_target", "other", "regions", "columns", "list_file"),
        *("list_text", "name_field", "scores"),
    ),
    st.lists(TEXTS, max_size=2) | TEXTS: (
        *("by", "gallery_per", "kinds", "pair_slices", "slices"),
    ),
    st.integers(-2, 5) | st.sampled_from([10**9, 10**30, 2.5, 1.0]): (
        *("batch_size", "k", "limit", "max_rank", "pairs", "resamples", "seed"),
        *("stripes", "gallery_shots", "draws", "draw_seed"),
    ),
    st.floats() | st.integers(-2, 2): (
        *("far", "max_similarity", "min_score", "min_similarity", "threshold"),
    ),
    st.booleans(): (
        *("causal", "exclude_duplicates", "exclude_same_camera", "images", "layers"),
        *("overwrite", "shortcuts"),
    ),
}
FITTING = {name: fitting for fitting, names in KINDS.items() for name in names}


@st.composite
def parameters(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a few parameters, one in eight of another type than the form's."""
    names = draw(st.lists(st.sampled_from(sorted(FITTING)), max_size=5, unique=True))
    return {
        name: draw(FITTING[name] if draw(st.integers(0, 7)) else ANYTHING)
        for name in names
    }


# These want more than chance gives: verdicts, a registered model, a second run, a key
# that is free, a list of pairs, one of two numbers but not both.
CHOOSY = (
    *("apply_verdicts", "check_faithfulness", "compare_runs", "decide_pairs"),
    *("explain_pairs", "explain_retrieval", "verify_pairs"),
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Six tiny people with an evaluated run."""
    dataset = fo.Dataset()
    fill(dataset, tmp_path_factory.mktemp("people"), identities=3, shots=2)
    protocol = Protocol("identity", camera_field="camera")
    evaluate_retrieval(explain_retrieval(dataset, tiny_model(), k=2, protocol=protocol))
    yield dataset
    dataset.delete()


def state_of(dataset: fo.Dataset) -> tuple[Any, ...]:
    """What no request that was refused may change."""
    names = ["id", "filepath", "identity", "camera", "split", "tags"]
    return (names, dataset.values(names), dataset.count())


@pytest.mark.parametrize("name", OPERATORS)
def test_any_parameters_give_a_form_and_a_result_or_a_sentence(
    people: fo.Dataset, name: str
) -> None:
    before, modules = state_of(people), set(sys.modules)
    outcomes: Counter[str] = Counter()
    told: list[str] = []

    @fuzz(15)
    @given(
        params=parameters(),
        keyed=st.booleans(),
    )
    def check(params: dict[str, Any], keyed: bool) -> None:
        if keyed:
            params = {"model": "demo", **params, "key": "sfam"}
        operator = type(foo.get_operator(f"{PLUGIN}/{name}"))()
        selected = people.limit(2).values("id")
        try:
            form = operator.resolve_input(context(people, params, selected=selected))
            json.dumps(form.to_json())
            operator.execute(context(people, params, selected=selected))
            outcomes["done"] += 1
        except SfamError as error:
            told.append(str(error))
            outcomes["refused"] += 1

    check()
    assert outcomes["refused"] > 0
    assert outcomes["done"] > 0 or name in CHOOSY
    assert [one for one in told if "\n" in one or not one.endswith((".", "?"))] == []
    assert state_of(people) == before
    new = [one for one in set(sys.modules) - modules if "nothing_that" in one]
    assert new == []


COMMANDS = st.sampled_from(
    [
        *("explain", "runs", "evaluate", "suspects", "regions", "faithfulness"),
        *("report", "verdicts", "fixes", "install", "", "explode"),
    ]
)
OPTIONS = st.sampled_from(
    [
        *("--model", "--key", "--k", "--identity-field", "--camera-field", "--junk"),
        *("--split-field", "--embeddings-field", "--brain-key", "--batch-size"),
        *("--patches-field", "--engine", "--neighbors", "--ray-workers", "--slice"),
        *("--pair-slice", "--cameras", "--far", "--resamples", "--seed", "--kind"),
        *("--min-score", "--region-field", "--top", "--field", "--stripes", "--by"),
        *("--max-rank", "--check", "--pairs", "--side", "--fill", "--layer"),
        *("--steps", "--set", "--remove", "--note", "--overwrite", "--out", "--undo"),
        *("--apply", "--write", "--read", "--rename", "--nonsense", "-x", "--"),
    ]
)


def test_any_arguments_give_a_result_or_a_sentence(
    people: fo.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = state_of(people)
    values = TEXTS.filter(lambda text: "\0" not in text and "\ud800" not in text)
    words = values | st.sampled_from(["0", "1", "2", "-5", "0.5", "1e9", people.name])
    codes: Counter[int] = Counter()

    @fuzz(150)
    @given(
        command=COMMANDS,
        dataset=st.sampled_from([people.name, people.name, people.name, "no-such"]),
        options=st.lists(st.tuples(OPTIONS, st.lists(words, max_size=2)), max_size=3),
    )
    def check(command: str, dataset: str, options: list[tuple[str, list[str]]]) -> None:
        if command == "install":
            dataset = "--copy"
        argv = [command, dataset]
        for option, given_ in options:
            argv += [option, *given_]
        if command == "install":
            argv += ["--plugins-dir", str(tmp_path / "plugins")]
        told = io.StringIO()
        with (
            contextlib.redirect_stderr(told),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            try:
                code = main(argv)
                lines = told.getvalue().count("\n")
                assert lines == (0 if code == 0 else 1), argv
            except SystemExit as exited:
                code = int(exited.code or 0)
        assert code in (0, 2), argv
        assert "Traceback" not in told.getvalue()
        codes[code] += 1

    check()
    assert codes[2] > codes[0] > 0
    assert state_of(people) == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("evaluate NAME --seed -5", "--seed: -5 is out of range; give 0 or more"),
        ("faithfulness NAME --seed -1", "--seed: -1 is out of range; give 0 or more"),
        ("demo --seed -1", "--seed: -1 is out of range; give 0 or more"),
        (
            f"explain NAME --model demo --key x --k {10**20}",
            f"--k: {10**20} is out of range; give 1 to 2147483647",
        ),
        (
            f"explain NAME --model demo --key x --batch-size {10**11}",
            f"--batch-size: {10**11} is out of range; give 1 to 2147483647",
        ),
        ("install --plugins-dir /dev/null", "(Not a directory): give another folder."),
    ],
)
def test_arguments_that_ended_in_a_traceback(
    people: fo.Dataset, capsys: pytest.CaptureFixture[str], argv: str, message: str
) -> None:
    words = [people.name if word == "NAME" else word for word in argv.split()]
    try:
        code = main(words)
    except SystemExit as exited:
        code = int(exited.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err


def test_seeds_that_no_draw_begins_with(people: fo.Dataset) -> None:
    run = load_run(people, "sfam")
    for seed in (-1, 1.5, "0"):
        for audit in (evaluate_retrieval, build_ledger):
            with pytest.raises(
                DataError, match=r"seed is .*; give a whole number of 0 or more"
            ):
                audit(run, seed=seed)


@pytest.mark.parametrize(
    ("schema", "params", "message"),
    [
        (
            EvaluationParameters,
            {"resamples": [None]},
            "resamples is [None]; give a whole number from 1 to 100000.",
        ),
        (
            PairParameters,
            {"max_rank": []},
            "max_rank is []; give a whole number from 1 to 10000000.",
        ),
        (
            PairParameters,
            {"min_similarity": 2},
            "min_similarity is 2; give a number from -1 to 1.",
        ),
        (
            EvaluationParameters,
            {"slices": {"a": 1}},
            "slices is {'a': 1}; give a list of at most 50 texts.",
        ),
        (
            EvaluationParameters,
            {"slices": ["a"] * 51},
            "slices is [" + "'a', " * 11 + "'a'…; give a list of at most 50 texts.",
        ),
        (
            EvaluationParameters,
            {"cameras": "two"},
            "cameras is 'two'; give one of protocol, all, cross, single.",
        ),
        (
            EvaluationParameters,
            {"fars": [0.1]},
            "the false accept rates '[0.1]' are not all numbers; give numbers "
            "separated by commas, such as 0.1, 0.01.",
        ),
        (
            PairParameters,
            {"key": {"a": 1}},
            "key is {'a': 1}; give a text of at most 10000 characters.",
        ),
        (
            PairParameters,
            {"key": "\ud800"},
            "key is '\\ud800'; give a text of at most 10000 characters.",
        ),
        (
            PairParameters,
            {"key": "a\0"},
            "key is 'a\\x00'; give a text of at most 10000 characters.",
        ),
        (VerdictParameters, {"overwrite": 1}, "overwrite is 1; give true or false."),
    ],
)
def test_parameters_that_no_form_gives(
    schema: type[Parameters], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as error:
        schema.read(params)
    assert str(error.value) == message
    # A form that is being filled in shows the problem, and keeps the default.
    assert schema.read_form(params) == (schema(), dict.fromkeys(params, message))
    assert schema.read(dict.fromkeys(params)) == schema()
    assert schema.read(dict.fromkeys(params, "")) == schema()


def test_every_parameter_of_a_form_is_in_the_schema(people: fo.Dataset) -> None:
    for name in OPERATORS:
        operator = type(foo.get_operator(f"{PLUGIN}/{name}"))()
        fields = set(operator.parameters.model_fields)
        texts = {"identity_field": "identity", "camera_field": "camera"}
        for params in (
            {},
            {**texts, "split_field": "tags", "causal": True, "action": "rename"},
            {"embeddings_from": "index", "field": "(stripes)", "action": "undo"},
            {"list_text": "a,b", "far": 0.1},
        ):
            form = operator.resolve_input(context(people, {"key": "sfam", **params}))
            asked = {
                field
                for field, prop in form.type.properties.items()
                if not isinstance(prop.type, types.Void)
            }
            assert asked - fields <= {"view_target", "about", "preview"}
