"""A long run, as a team makes it: the real operator, delegated, then the panels.

    python benchmarks/soak.py [--images 20000] [--actions 500] [--k 5] [--no-tests]

Draws synthetic people, queues the operator ``explain_retrieval`` on them and executes
it as FiftyOne's delegated operation service does, then evaluates it and looks for
suspects the same way; meanwhile memory and open files are sampled. Then come random
actions in both panels, as the App's server executes them. At last the tests that can
take longer do: every write a run can be killed at, and 500 examples of each fuzz test.

Prints JSON, writes it to ``benchmarks/out/soak.json``, and ends with exit code 1 where
something failed, files stayed open, or memory kept growing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from isolated import isolated_database
from panels import PLUGIN, PairsPanel, Panel, crops

if TYPE_CHECKING:
    import fiftyone as fo

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "soak.json"
MEBIBYTE = 2**20

INTERVAL = 1.0
"""Seconds between two samples of memory and open files."""

WARM_UP = 100
"""Actions until the panels' caches are full: memory may grow that long."""

GROWTH_MIB = 64
LEFT_OPEN = 4
SEED = 7


def _at(place: int) -> dict[str, int]:
    """What the App tells of a click on a point, or on a row."""
    return {"idx": place, "row": place, "trace_idx": 0}


PAIRS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("open", {}), ("queue", {}), ("explain", {})),
    *(("queue", {"spec": {"order": one}}) for one in ("run", "margin", "suspects")),
    *(("queue", {"spec": {"reviewed": one}}) for one in ("open", "done", "fine")),
    ("queue", {"spec": {"outcome": "false match", "ranks": "all"}}),
    *(("query", {"pair": one}) for one in (0, 1, 50, 1000)),
    *(("correspondences", {"pair": one}) for one in (0, 50)),
    *(("channels", {"pair": one}) for one in (0, 50)),
    ("live", {"pairs": [0, 1], "kind": "difference"}),
    *(("rows", {"pairs": list(range(one, one + 20))}) for one in (0, 1000)),
    *(("verdict", {"pairs": [1], "verdict": one}) for one in ("fine", "same clothes")),
    ("verdict", {"pairs": list(range(100)), "verdict": "wrong label"}),
    *(("locate", {"sample": "0" * 24}), ("show", {"pair": 0, "what": "grid"})),
)
AUDIT: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("on_tab", {"value": one}) for one in ("overview", "scores", "matches")),
    *(("on_tab", {"value": one}) for one in ("regions", "suspects", "maps")),
    *(
        ("on_mark", {"mark": mark, "path": "", **_at(place)})
        for mark in ("cmc", "worst", "missed_1", "scores", "identities")
        for place in (0, 1, 5)
    ),
    ("on_all", {}),
)


class Samples:
    """Memory and open files of this process, taken while something runs."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self.memory: list[float] = []
        self.files: list[int] = []

    def __enter__(self) -> Samples:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _take(self) -> None:
        while True:
            self.memory.append(memory_mib(self._process))
            self.files.append(self._process.num_fds())
            if self._stop.wait(INTERVAL):
                return

    def summary(self) -> dict[str, Any]:
        """Tell what was seen: first, last and most."""
        return {
            "samples": len(self.memory),
            "memory_mib": [
                round(one)
                for one in (self.memory[0], self.memory[-1], max(self.memory))
            ],
            "open_files": [self.files[0], self.files[-1], max(self.files)],
        }


def memory_mib(process: psutil.Process | None = None) -> float:
    """Return the memory that a process has, in MiB."""
    return float((process or psutil.Process()).memory_info().rss / MEBIBYTE)


def main() -> int:
    """Do it all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--actions", type=int, default=500)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--no-tests", action="store_true")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"images": arguments.images, "k": arguments.k}
    if not arguments.no_tests:
        # First: they have a database of their own.
        report["tests"] = long_tests()
    with isolated_database("sfam_soak") as folder:
        report |= soaked(folder, arguments)
    report["broken"] = broken(report)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    for text in report["broken"]:
        print(text, file=sys.stderr)
    return 1 if report["broken"] else 0


def soaked(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the run and use the panels."""
    from fiftyone_sfam import load_run

    dataset = crops(folder / "images", arguments.images)
    report: dict[str, Any] = {
        "explain_retrieval": delegated(
            dataset,
            "explain_retrieval",
            model="demo",
            key="soak",
            k=arguments.k,
            identity_field="identity",
            camera_field="camera",
        ),
        "evaluate_retrieval": delegated(dataset, "evaluate_retrieval", key="soak"),
        "find_suspects": delegated(dataset, "find_suspects", key="soak"),
    }
    dataset.reload()
    report["summary"] = load_run(dataset, "soak").summary()
    report["stored_mib"] = round(load_run(dataset, "soak").store.size() / MEBIBYTE, 1)
    report["panels"] = random_actions(dataset, arguments.actions)
    return report


def delegated(dataset: fo.Dataset, name: str, **params: Any) -> dict[str, Any]:
    """Queue an operator and execute the queue; tell how it went."""
    import fiftyone.operators as foo
    from fiftyone.operators.delegated import DelegatedOperationService

    operator = foo.get_operator(f"{PLUGIN}/{name}")
    operator(dataset, **params, delegate=True)
    start = time.monotonic()
    with Samples() as samples:
        [done] = DelegatedOperationService().execute_queued_operations(
            dataset_name=dataset.name
        )
    seconds = round(time.monotonic() - start, 1)
    return {"seconds": seconds, "error": done.error, **samples.summary()}


def random_actions(dataset: fo.Dataset, count: int) -> dict[str, Any]:
    """Do random things in both panels."""
    generator = np.random.default_rng(SEED)
    pairs, audit = PairsPanel(dataset, "soak"), Panel(dataset, "sfam_audit")
    audit.do("on_load")
    errors: Counter[str] = Counter()
    seconds: list[float] = []
    sizes: list[int] = []
    warm = 0.0
    with Samples() as samples:
        for number in range(count):
            known = (PAIRS, AUDIT)[int(generator.integers(2))]
            name, params = known[int(generator.integers(len(known)))]
            try:
                if known is AUDIT:
                    took, size = audit.do(name, dict(params))
                else:
                    took, size = pairs.ask(name, **params)
            except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
                errors[f"{name}: {type(error).__name__}: {error}"] += 1
                continue
            seconds.append(took)
            sizes.append(size)
            if number + 1 == min(WARM_UP, count):
                warm = memory_mib()
    return {
        "actions": count,
        "errors": dict(errors),
        "median_seconds": round(float(np.median(seconds)), 4),
        "worst_seconds": round(max(seconds), 3),
        "worst_bytes": max(sizes),
        "memory_after_warm_up_mib": round(warm),
        "growth_mib": round(memory_mib() - warm, 1),
        **samples.summary(),
    }


def long_tests() -> dict[str, Any]:
    """Run the tests that are given more to do here."""
    tests = ROOT / "tests"
    found = {}
    for name, files, settings in (
        # More than there are writes: each, before and after.
        (
            "kills",
            [tests / "pipeline" / "test_crashes.py"],
            {"FIFTYONE_SFAM_KILLS": "100000"},
        ),
        ("fuzz", sorted(tests.rglob("test_fuzz*.py")), {"FIFTYONE_SFAM_FUZZ": "500"}),
    ):
        if not files:
            continue
        command = [sys.executable, "-m", "pytest", "-q", "-s", "--timeout", "7200"]
        start = time.monotonic()
        done = subprocess.run(
            [*command, *map(str, files)],
            env={**os.environ, **settings},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        lines = done.stdout.splitlines()
        found[name] = {
            **settings,
            "seconds": round(time.monotonic() - start, 1),
            "exit_code": done.returncode,
            "summary": lines[-1] if lines else "",
        }
        if name == "kills":
            found[name]["trials"] = sum(
                re.match(r"\.?\d+ (True|False) ", one) is not None for one in lines
            )
    return found


def broken(report: dict[str, Any]) -> list[str]:
    """List what should not have happened."""
    found = []
    for name in ("explain_retrieval", "evaluate_retrieval", "find_suspects"):
        one = report[name]
        if one["error"]:
            found.append(f"{name} failed: {one['error']}")
        first, last, _ = one["open_files"]
        if last - first > LEFT_OPEN:
            found.append(f"{name} left {last - first} files open")
    panels = report["panels"]
    for text, count in panels["errors"].items():
        found.append(f"{count} times {text}")
    if panels["growth_mib"] > GROWTH_MIB:
        found.append(f"the panels' memory grew by {panels['growth_mib']} MiB")
    for name, one in report.get("tests", {}).items():
        if one["exit_code"]:
            found.append(f"the tests of {name} failed: {one['summary']}")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
