"""What somebody who only reaches the App, or only made the dataset, cannot do.

docs/security.md says who is trusted with what. Escaping is tested where texts are
shown: tests/test_panel_*.py, tests/test_report*.py.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pandas as pd
import pytest
import torch
from fiftyone.operators import types
from fiftyone.operators.executor import execute_or_delegate_operator

import fiftyone_sfam
from fiftyone_sfam import (
    Protocol,
    explain_pairs,
    explain_retrieval,
    get_verdicts,
    set_verdict,
)
from fiftyone_sfam.app.forms.choices import for_user
from fiftyone_sfam.app.operators.check_faithfulness import CheckFaithfulness
from fiftyone_sfam.app.operators.decide_pairs import DecidePairs
from fiftyone_sfam.app.operators.evaluate_retrieval import EvaluateRetrieval
from fiftyone_sfam.app.operators.explain_pairs import ExplainPairs
from fiftyone_sfam.app.operators.explain_regions import ExplainRegions
from fiftyone_sfam.app.operators.explain_retrieval import ExplainRetrieval
from fiftyone_sfam.app.operators.explain_these import ExplainThis
from fiftyone_sfam.app.operators.find_suspects import FindSuspects
from fiftyone_sfam.app.operators.manage_runs import ManageRuns
from fiftyone_sfam.app.operators.open_workspace import OpenWorkspace
from fiftyone_sfam.app.operators.show_pairs import ShowPairs
from fiftyone_sfam.app.operators.verify_pairs import VerifyPairs
from fiftyone_sfam.app.operators.write_report import WriteReport
from fiftyone_sfam.app.pairs.plain import sentence
from fiftyone_sfam.app.registration import OPERATORS
from fiftyone_sfam.audit.report.tables import write_csv
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.models.weights import _check_torch
from fiftyone_sfam.review.verdicts import restore_verdict
from fiftyone_sfam.runs.run import Run, load_run
from fiftyone_sfam.runs.run_config import record_run
from operator_support import PLUGIN, context
from worlds import fill, tiny_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of a model that is not registered: nothing can be computed with it."""
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("images"))
    protocol = Protocol(identity_field="identity", camera_field="camera")
    first, second, *_, last = dataset.values("filepath")
    pairs = [(first, second, "same"), (first, last, "different")]
    explain_pairs(dataset, tiny_model(), pairs, key="given")
    yield explain_retrieval(dataset, tiny_model(), k=2, protocol=protocol)
    dataset.delete()


# -- nothing that is typed is opened, imported or unpickled ----------------------------


class Watch:
    """Notes which files are opened and which modules imported, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        # It cannot be taken away again.
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event in ("open", "import", "pickle.find_class", "exec"):
            self.seen.append(f"{event} {args[0]!s}")
        if self.on and event.startswith(("subprocess.", "os.exec", "os.system")):
            self.seen.append(event)


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module, a checkpoint and a registry that no one has registered."""
    (tmp_path / "canary.py").write_text("raise SystemExit('the canary was imported')")
    torch.save({"a": torch.zeros(1)}, tmp_path / "canary.pth")
    entry = {"factory": "canary.py:build", "preprocess": {"size": [8, 8]}}
    registry = {"models": {"canary": entry}}
    (tmp_path / "canary.json").write_text(json.dumps(registry))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_watch_hears_what_it_should(watch: Watch, canary: Path) -> None:
    watch.on, watch.seen = True, []
    try:
        (canary / "canary.pth").read_bytes()
        with pytest.raises(SystemExit):
            __import__("canary")
    finally:
        watch.on = False
    assert f"open {canary / 'canary.pth'}" in watch.seen
    assert "import canary" in watch.seen


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda one: one.__name__)
def test_what_is_typed_is_never_opened(
    run: Run, watch: Watch, canary: Path, operator: type[foo.Operator]
) -> None:
    key = "given" if operator is VerifyPairs else "sfam"
    fields = _fields_of_form(operator(), run, key)
    asked = {name for name, takes_text in fields.items() if takes_text}
    # Two forms ask for nothing, one for nothing but the run, and one for numbers.
    silent = (ExplainThis, OpenWorkspace, WriteReport, DecidePairs)
    assert (len(asked) == 0) == (operator in silent), fields
    # An agent may give what no form asks for.
    others = {"path", "registry", "out", "weights", "model", "run"}
    texts = asked | others
    for text in (
        f"{canary / 'canary.pth'}",
        f"{canary / 'canary.json'}",
        f"{canary / 'canary.py'}:build",
        f"onnx:{canary / 'canary.pth'}",
        f"hub:{canary}:canary",
        "canary:build",
        "../" * 12 + f"{canary / 'canary.json'}".lstrip("/"),
    ):
        # One after the other, and all that take a text at once: what is read first must
        # not keep others from being read.
        each = ({name: text} for name in (*fields, *others, "key"))
        for given in (*each, dict.fromkeys(texts, text)):
            params = {"key": key, "model": "demo", "causal": True, "pairs": 1}
            ctx = context(run.dataset, params | given)
            watch.on, watch.seen = True, []
            try:
                operator().resolve_input(ctx)
                if (
                    len(given) > 1
                    or "model" in given
                    or operator
                    in (
                        FindSuspects,
                        ExplainPairs,
                        VerifyPairs,
                    )
                ):
                    operator().execute(ctx)
            # Whatever else is wrong with it is other tests' business.
            except (ValueError, KeyError):
                pass
            finally:
                watch.on = False
            assert [one for one in watch.seen if "canary" in one] == []
            assert [one for one in watch.seen if one.startswith("pickle")] == []


def _fields_of_form(
    operator: foo.Operator, run: Run, key: str = "sfam"
) -> dict[str, bool]:
    """Names of everything that a form asks for, and whether it takes a text."""
    form = operator.resolve_input(context(run.dataset, {"key": key}))
    shown = {} if form is None else form.type.properties
    return {
        name: isinstance(one.type, (types.String, types.Enum))
        for name, one in shown.items()
        if name != "key"
    }


# -- sizes -----------------------------------------------------------------------------

_NO_NUMBERS = (10**12, -1, math.nan, math.inf, "x", True, [1], 1.5)


@pytest.mark.parametrize(
    ("operator", "name", "most"),
    [
        (ExplainRetrieval, "k", 1000),
        (ExplainRetrieval, "batch_size", 1024),
        (EvaluateRetrieval, "resamples", 100_000),
        (EvaluateRetrieval, "seed", 2**32 - 1),
        (ExplainRegions, "stripes", 20),
        (ExplainRegions, "max_rank", 10_000_000),
        (ExplainRegions, "seed", 2**32 - 1),
        (CheckFaithfulness, "pairs", 10_000),
        (CheckFaithfulness, "seed", 2**32 - 1),
        (ShowPairs, "max_rank", 10_000_000),
    ],
    ids=lambda one: getattr(one, "__name__", str(one)),
)
def test_sizes_are_bounded(
    run: Run, operator: type[foo.Operator], name: str, most: int
) -> None:
    before = run.dataset.list_runs()
    for value in _NO_NUMBERS:
        ctx = context(run.dataset, {"key": "sfam", "model": "demo", name: value})
        wanted = f"{name} is .*; give a whole number from [01] to {most}."
        with pytest.raises(DataError, match=wanted):
            operator().execute(ctx)
    assert run.dataset.list_runs() == before


@pytest.mark.parametrize(
    ("operator", "params", "message"),
    [
        (ExplainRegions, {"causal": True, "limit": 10**9}, "limit is 1000000000;"),
        (
            ExplainRegions,
            {"by": ["camera"] * 51},
            "by is .*; give a list of at most 50",
        ),
        (EvaluateRetrieval, {"slices": "camera"}, "slices is .*; give a list of"),
        (EvaluateRetrieval, {"slices": ["x" * 10_001]}, "slices is .*; give a list of"),
        (EvaluateRetrieval, {"pair_slices": [{}]}, "pair_slices is .*; give a list of"),
        (EvaluateRetrieval, {"fars": "0.1," * 99 + "1"}, "100 false accept rates are"),
        (
            FindSuspects,
            {"min_score": math.nan},
            "min_score is nan; give a number that is at least 0",
        ),
        (
            ExplainPairs,
            {"model": "demo", "list_file": ["x"]},
            "list_file is .*; give a",
        ),
        (DecidePairs, {"threshold": math.nan}, "threshold is nan; give a number"),
        (DecidePairs, {"far": 1}, "far is 1; give a rate between 0 and 1"),
        (FindSuspects, {"kinds": [["x"]]}, "kinds is .*; give a list of"),
        (FindSuspects, {"region_field": 3}, "region_field is 3; give a text"),
        (
            ShowPairs,
            {"min_similarity": "x"},
            "min_similarity is 'x'; give a number from -1",
        ),
        (ShowPairs, {"outcome": ["x"]}, "outcome is .*; give a text"),
        (ExplainRetrieval, {"model": "demo", "k": "9" * 99}, "k is '9999.*…;"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_parameters_of_a_wrong_kind(
    run: Run, operator: type[foo.Operator], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        operator().execute(context(run.dataset, {"key": "sfam"} | params))


def test_an_undo_cannot_smuggle_in_a_verdict(run: Run) -> None:
    set_verdict(run, 0, "same clothes")
    before = get_verdicts(run)[0]
    for forged in (
        replace(before, text="x" * 201),
        replace(before, text="two\nlines"),
        replace(before, text={"$where": "1"}),
        replace(before, note="x" * 2001),
        replace(before, created="<b>now</b>"),
        replace(before, created=None),
    ):
        with pytest.raises(DataError, match="cannot be"):
            restore_verdict(run, 0, forged)
    assert get_verdicts(run)[0] == before
    restore_verdict(run, 0, before)
    assert get_verdicts(run)[0] == before


# -- what is told ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("there is no file /srv/my data/faces/a b.png.", "there is no file a b.png."),
        (
            "in the registry file '/etc/x/models.json', model 'a'",
            "in the registry file 'models.json', model 'a'",
        ),
        ("'C:\\Users\\me\\x.pth' is damaged", "'x.pth' is damaged"),
        ("no \\\\server\\share\\x.pth", "no x.pth"),
        ("see file:///data/x.png or ~/y/z.pt", "see x.png or z.pt"),
        ("'/a/b.png' and '/c/d.png'", "'b.png' and 'd.png'"),
        # What is no absolute path stays.
        ("see https://example.org/a/b.html", "see https://example.org/a/b.html"),
        ("3/4/5 of a/b/c.py, or x / y", "3/4/5 of a/b/c.py, or x / y"),
    ],
)
def test_messages_without_folders(message: str, shown: str) -> None:
    assert for_user(message) == shown


def test_messages_without_the_folders_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = Path.cwd().anchor + "odd: 'name' | x"
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", f"{odd}/models.json")
    assert for_user(f"{odd}/models.json is no JSON") == "models.json is no JSON"
    assert for_user(f"{Path.home()}/a.pth is damaged") == "a.pth is damaged"


def test_errors_of_operators_do_not_tell_folders(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "secret" / "net.pth"
    entry = {
        "factory": "torch.nn:Flatten",
        "weights": str(weights),
        "preprocess": {"size": [8, 8]},
    }
    registry = tmp_path / "secret" / "models.json"
    registry.parent.mkdir()
    registry.write_text(json.dumps({"models": {"ours": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(registry))
    request = {
        "dataset_name": run.dataset.name,
        "params": {"model": "ours", "key": "new"},
    }
    result = asyncio.run(
        execute_or_delegate_operator(f"{PLUGIN}/explain_retrieval", request)
    )
    assert "the weights file net.pth does not exist" in result.error_message
    # The traceback too, which FiftyOne sends along.
    assert "net.pth" in result.error
    assert "secret" not in result.error + result.error_message
    params = {"model": "nobody", "key": "new"}
    with pytest.raises(ModelError, match=r"registered in models\.json"):
        ExplainRetrieval().execute(context(run.dataset, params))
    registry.write_text("{")
    form = ExplainRetrieval().resolve_input(context(run.dataset))
    problem = form.type.properties["model"].error_message
    assert problem.startswith("the registry file models.json is not valid JSON")


def test_panels_do_not_tell_folders() -> None:
    shown = sentence("the file does not exist: /srv/faces/a.png.")
    assert shown == "The file does not exist: a.png."
    assert len(sentence("x" * 100_000)) == 2000


def test_a_stored_name_of_a_model_is_no_markup(run: Run) -> None:
    config, key = run.config, run.key
    name = "`x` ![](http://example.org/x.png) <img src=x>"
    try:
        record_run(run.dataset, key, replace(config, model=name, layer="`**a**`"))
        assert load_run(run.dataset, key).config.model == name
        form = ManageRuns().resolve_input(context(run.dataset, {"key": key}))
        text = form.type.properties["about"].default
    finally:
        record_run(run.dataset, key, config)
    unescaped = re.sub(r"\\.", "", text)
    assert "12 queries" in unescaped
    for markup in ("`", "](", "<img", "**"):
        assert markup not in unescaped


def test_cells_are_no_formulas(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\uff1d1", "p=1", None, ""]
    frame = pd.DataFrame(
        {
            "=HYPERLINK(1)": pd.Series(texts, dtype=object),
            "score": [-0.5] * len(texts),
            "ids": [["=1"]] * len(texts),
        }
    )
    write_csv(tmp_path / "x.csv", [frame])
    head, *rows = (tmp_path / "x.csv").read_text("utf-8").split("\n")
    assert head.rstrip("\r") == "'=HYPERLINK(1),score,ids"
    first = [row.split(",")[0].strip('"') for row in rows if row]
    shown = [f"'{text}" for text in texts[:7]]
    assert first[:7] == shown
    assert first[7:] == ["p=1", "", ""]
    assert all(",-0.5," in row for row in rows if row)
    assert all(row.rstrip("\r").endswith('"[""=1""]"') for row in rows if row)


# -- the checks themselves -------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.4.0", "2.5.1+cpu"])
def test_checkpoints_wait_for_a_torch_that_is_safe(version: str) -> None:
    with pytest.raises(ModelError, match=f"with torch {re.escape(version)}.*2.6"):
        _check_torch(Path("net.pth"), version)


@pytest.mark.parametrize("version", ["2.6.0", "2.10.0+cpu", "3.0.0a1"])
def test_a_torch_that_is_safe(version: str) -> None:
    _check_torch(Path("net.pth"), version)


def test_exceptions_from_bandit_are_known() -> None:
    package = Path(fiftyone_sfam.__file__).parent
    found = {
        path.relative_to(package).as_posix(): sorted(
            re.findall(r"# nosec (\w+)", path.read_text("utf-8"))
        )
        for path in package.rglob("*.py")
        if "# nosec" in path.read_text("utf-8")
    }
    assert found == {
        "audit/report/write.py": ["B704"] * 5,
        "models/sources/transformers_models.py": ["B615"] * 3,
        "models/weights.py": ["B403"],
    }
