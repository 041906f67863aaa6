"""An agent audits the demo people through FiftyOne's MCP server, as its skills say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.plugins as fop
import numpy as np
import pytest
from mcp import ClientSession, StdioServerParameters, stdio_client

from fiftyone_sfam import (
    explain_pair,
    load_evaluation,
    load_ledger,
    load_run,
    load_suspects,
)
from fiftyone_sfam.app.operators.base import plain
from fiftyone_sfam.app.registration import OPERATORS
from fiftyone_sfam.audit.regions.display import sentences
from fiftyone_sfam.audit.suspects.search import MISLABELED
from fiftyone_sfam.demo.world import WRONG_LABEL
from operator_support import PLUGIN
from paths import ROOT
from plugin_support import MANIFEST

REPORTS = "FIFTYONE_SFAM_REPORTS"
SKILLS = sorted((ROOT / "skills").glob("*/SKILL.md"))
Call = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """The demo people, with their planted defects, but fewer of them."""
    from fiftyone_sfam.demo.dataset import load_demo_dataset

    folder = tmp_path_factory.mktemp("people")
    dataset = load_demo_dataset(
        "sfam-agents", 51, folder, identities=24, images_per_identity=6
    )
    yield dataset
    dataset.delete()


def drive(
    talk: Callable[[Call], Awaitable[None]], folder: Path
) -> list[tuple[str, dict[str, Any]]]:
    """Start the server, let an agent talk to it, and return the calls of tools."""
    transcript: list[tuple[str, dict[str, Any]]] = []
    server = StdioServerParameters(
        command=sys.executable,
        args=["-c", "from fiftyone_mcp.server import run; run()"],
        env={**os.environ, REPORTS: str(folder)},
    )

    async def main() -> None:
        async with (
            stdio_client(server) as (reading, writing),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()

            async def call(tool: str, **arguments: Any) -> dict[str, Any]:
                transcript.append((tool, arguments))
                answer = await session.call_tool(tool, arguments)
                [content] = answer.content
                return json.loads(content.text, parse_constant=_refuse)

            await talk(call)

    asyncio.run(main())
    return transcript


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_an_agent_audits_the_demo(people: fo.Dataset, tmp_path: Path) -> None:
    found: dict[str, Any] = {}

    async def talk(call: Call) -> None:
        async def run(operator: str, **params: Any) -> Any:
            answer = await call(
                "execute_operator",
                operator_uri=f"{PLUGIN}/{operator}",
                dataset_name=people.name,
                params=params,
            )
            assert answer["success"], answer
            return answer["data"]["result"]

        listed = await call("list_operators", builtin_only=False)
        found["operators"] = {one["uri"] for one in listed["data"]["operators"]}
        found["schema"] = await call(
            "get_operator_schema",
            operator_uri=f"{PLUGIN}/explain_retrieval",
            dataset_name=people.name,
        )
        found["made"] = await run(
            "explain_retrieval",
            model="demo",
            key="audit",
            identity_field="identity",
            camera_field="camera",
            split_field="split",
        )
        found["measured"] = await run(
            "evaluate_retrieval", key="audit", slices=["camera"]
        )
        found["suspects"] = await run("find_suspects", key="audit")
        found["regions"] = await run("explain_regions", key="audit")
        found["trust"] = await run("check_faithfulness", key="audit", pairs=6)
        found["false"] = await run("show_pairs", key="audit", outcome="false match")
        worst = found["false"]["first"][0]
        found["why"] = await run(
            "explain_selected",
            samples=[worst["query"], worst["neighbor"]],
            model="demo",
            pictures=False,
        )
        found["other"] = await run(
            "explain_retrieval",
            model="demo",
            key="other",
            k=1,
            identity_field="identity",
            camera_field="camera",
            split_field="split",
        )
        found["compared"] = await run("compare_runs", key="audit", other="other")
        found["report"] = await run("write_report", key="audit")
        found["again"] = await call(
            "execute_operator",
            operator_uri=f"{PLUGIN}/explain_retrieval",
            dataset_name=people.name,
            params={"model": "demo", "key": "audit"},
        )
        found["one"] = await call(
            "execute_operator",
            operator_uri=f"{PLUGIN}/explain_selected",
            dataset_name=people.name,
            params={"model": "demo", "samples": [worst["query"], "0" * 24]},
        )

    transcript = drive(talk, tmp_path / "reports")
    assert [tool for tool, _ in transcript].count("execute_operator") == 12

    assert found["operators"] >= {f"{PLUGIN}/{name}" for name in MANIFEST["operators"]}
    properties = found["schema"]["data"]["input_schema"]["type"]["properties"]
    models = [one["value"] for one in properties["model"]["view"]["choices"]]
    assert "demo" in models

    people.reload()
    run = load_run(people, "audit")
    assert found["made"] == {"key": "audit", **run.summary()}
    evaluation = load_evaluation(run)
    assert evaluation is not None
    measured = found["measured"]
    assert measured["rank1"] == evaluation.overall.rank1.value == run.summary()["rank1"]
    mean = evaluation.identification.mean_average_precision
    assert measured["mean_average_precision"] == mean
    suspects = load_suspects(run)
    assert suspects is not None
    first = found["suspects"]["first"]
    assert [one["sentence"] for one in first] == [
        one.sentence for one in suspects.findings[:20]
    ]
    # The wrong labels that were planted are among those that an agent is told of.
    planted = set(people.match({"planted": WRONG_LABEL}).values("id"))
    assert len(planted) == 6
    told = [one["samples"] for one in first if one["kind"] == MISLABELED]
    assert planted <= {sample_id for ids in told for sample_id in ids}
    assert found["regions"]["regions"] == ["person", "background"]
    ledger = load_ledger(run)
    assert ledger is not None
    assert found["regions"]["sentences"] == list(sentences(ledger))
    assert found["trust"]["pairs"] == 6
    worst = found["false"]["first"][0]
    assert worst["query_identity"] != worst["neighbor_identity"]
    pair = explain_pair("demo", people[worst["query"]], people[worst["neighbor"]])
    why = found["why"]
    assert why["similarity"] == pytest.approx(pair.score)
    assert why["similarity"] == pytest.approx(worst["similarity"], abs=1e-5)
    for shares in (why["query_shares"], why["neighbor_shares"]):
        assert set(shares) == {
            "upper third",
            "middle third",
            "lower third",
            "not on the map",
        }
        assert sum(shares.values()) == pytest.approx(pair.score, abs=1e-5)
    assert (found["compared"]["gained"], found["compared"]["lost"]) == (0, 0)
    files = {path.name for path in (tmp_path / "reports").rglob("*") if path.is_file()}
    assert set(found["report"]["files"].split(", ")) <= files

    # What a form refuses, and what only the operation notices, are told in a sentence.
    assert not found["again"]["success"]
    assert found["again"]["error"].endswith(
        "Path: key. Reason: there is a run 'audit' already; replace it, or change the "
        "key."
    )
    assert not found["one"]["success"]
    assert found["one"]["error"].endswith(
        "Reason: there is no sample '000000000000000000000000' any more; select two "
        "again."
    )


def test_results_are_plain_json() -> None:
    made = {"a": np.float32("nan"), 1: (np.int64(3), np.str_("x"), float("inf"), True)}
    found = plain({**made, "more": {"b": np.bool_(False)}})
    assert found == {"a": None, "1": [3, "x", None, True], "more": {"b": False}}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# --------------------------------------------------------------------------------------
# The skills
# --------------------------------------------------------------------------------------


def test_fiftyone_finds_the_skills() -> None:
    found = {skill.name: skill for skill in fop.list_skills(plugin=MANIFEST["name"])}
    assert set(found) == set(MANIFEST["skills"])
    assert {path.parent.name for path in SKILLS} == set(found)
    for skill in found.values():
        assert 40 < len(skill.description) < 500
        assert skill.category == "evaluation"


@pytest.mark.parametrize("path", SKILLS, ids=lambda path: path.parent.name)
def test_skills_name_operators_and_parameters_that_there_are(path: Path) -> None:
    parameters = {cls.config.name: cls.parameters.model_fields for cls in OPERATORS}
    text = path.read_text("utf-8")
    rows = re.findall(r"^\| \d+ \| `(\w+)` \| ([^|]*) \|", text, re.MULTILINE)
    for operator, params in rows:
        for name in re.findall(r"(?:^|, )`(\w+)`", params):
            assert name in parameters[operator], f"{operator} has no {name}"
    for operator in re.findall(r"`([a-z]+_[a-z_]+)`", text):
        known = {name for fields in parameters.values() for name in fields}
        assert operator in {*parameters, *known, *TOOLS}, operator


TOOLS = {
    "execute_operator",
    "get_operator_schema",
    "load_dataset",
    "get_field_schema",
    "dataset_name",
    "operator_uri",
    "mean_average_precision",
    "equal_error",
    "query_shares",
    "neighbor_shares",
    "query_map",
    "neighbor_map",
}
"""Other names in the skills: tools of the server, their arguments, and results."""
