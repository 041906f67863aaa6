"""Measure the panels over a large run, on the server's side and in the browser.

Draws synthetic people, explains the 10 nearest neighbors of 10,000 images, and executes
the events of the audit panel and the questions of the panel of pairs as the App's
server does: how long each takes, how much is sent, and whether memory grows. Writes
``benchmarks/out/panels.json``, prints it, and ends with exit code 1 where a bound is
broken.

Usage: ``python benchmarks/panels.py [--images N] [--steps N]``.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import panels_browser
import psutil
import pydash
from isolated import isolated_database
from PIL import Image

if TYPE_CHECKING:
    import fiftyone as fo
    import fiftyone.operators as foo

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "panels.json"
PLUGIN = "@fiftyone-sfam/sfam"

STEP_SECONDS = 0.150
STEP_BYTES = 250_000
AUDIT_SECONDS = 1.5
AUDIT_GROWTH = 1.25
MEMORY_BYTES = 20 * 2**20
COLD_REPEATS = 5
WARM_UP = 20


@dataclass(frozen=True)
class Events:
    """What events of one kind took: seconds and bytes sent, medians and the worst."""

    count: int
    median_seconds: float
    worst_seconds: float
    median_bytes: int
    worst_bytes: int


class Panel:
    """A panel as the App keeps it, event by event."""

    def __init__(self, dataset: fo.Dataset, name: str) -> None:
        import fiftyone.operators as foo

        self.dataset = dataset
        self.panel = foo.get_operator(f"{PLUGIN}/{name}")
        self.state: dict[str, Any] = {}

    def do(
        self, method: str, params: dict[str, Any] | None = None
    ) -> tuple[float, int]:
        """Execute an event; return its seconds and the bytes of its answer."""
        given = {"panel_id": "panel", "panel_state": self.state}
        seconds, size, ctx, _ = self._execute({**(params or {}), **given}, method)
        for request in ctx.executor.to_json()["requests"]:
            if request["operator_uri"] == "patch_panel_state":
                for path, value in request["params"]["state"].items():
                    pydash.set_(self.state, path, value)
        if self.state.get("problem"):
            raise RuntimeError(f"{method}: {self.state['problem']}")
        return seconds, size

    def _execute(
        self, params: dict[str, Any], method: str
    ) -> tuple[float, int, foo.ExecutionContext, Any]:
        """Execute a method; return seconds, bytes, the context and the result."""
        import fiftyone.operators as foo
        from fiftyone.operators.executor import Executor

        ctx = foo.ExecutionContext(
            request_params={
                "dataset_name": self.dataset.name,
                "params": {**params, "__method__": method},
            },
            executor=Executor(),
        )
        start = time.perf_counter()
        result = self.panel.execute(ctx)
        answer = json.dumps([result, ctx.executor.to_json()])
        return time.perf_counter() - start, len(answer), ctx, result


class PairsPanel(Panel):
    """The panel of pairs, whose component has a run open and asks about it."""

    def __init__(self, dataset: fo.Dataset, key: str) -> None:
        super().__init__(dataset, "sfam_pairs")
        self.named: dict[str, Any] = {"run": key}
        opened = self.answer("open")
        self.named["uid"] = opened["run"]["uid"]

    def answer(self, question: str, **params: Any) -> dict[str, Any]:
        """Return the answer to a question."""
        given = {**self.named, **params, "question": question}
        self.seconds, self.bytes, _, result = self._execute(given, "ask")
        if "problem" in result:
            raise RuntimeError(f"{question}: {result['problem']}")
        return dict(result)

    def ask(self, question: str, **params: Any) -> tuple[float, int]:
        """Ask a question; return its seconds and the bytes of its answer."""
        self.answer(question, **params)
        return self.seconds, self.bytes

    def queue(self, **spec: Any) -> list[int]:
        """Return the pairs of a queue."""
        encoded = self.answer("queue", spec=spec)["pairs"]["data"]
        return np.frombuffer(base64.b64decode(encoded), dtype="<i4").tolist()


def main() -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cold", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cold:
        print(json.dumps(opened(*arguments.cold)))
        return 0
    with isolated_database("sfam_panels") as folder:
        report = measured(folder, arguments.images, arguments.steps)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    for text in report["broken"]:
        print(text, file=sys.stderr)
    return 1 if report["broken"] else 0


def measured(folder: Path, images: int, steps: int) -> dict[str, Any]:
    """Make the runs and measure the panels over them."""
    from fiftyone_sfam import Protocol, explain_retrieval
    from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval

    dataset = crops(folder / "images", images)
    protocol = Protocol(identity_field="identity", camera_field="camera")
    large = explain_retrieval(dataset, "demo", key="k10", k=10, protocol=protocol)
    vectors = large.embeddings()
    small = explain_retrieval(
        dataset, "demo", key="k3", k=3, protocol=protocol, embeddings=vectors
    )
    evaluate_retrieval(large)
    evaluate_retrieval(small)
    cold = {
        f"{panel} {key}": cold_openings(dataset.name, panel, key)
        for panel, key in (
            ("sfam_pairs", "k10"),
            ("sfam_audit", "k10"),
            ("sfam_audit", "k3"),
        )
    }
    stepping, growth = stepped(dataset, steps)
    report = {
        "images": images,
        "pairs": len(large.pairs),
        "map_shape": large.config.map_shape,
        "stored_bytes_per_pair": large.store.size() / len(large.pairs),
        "cold": {name: asdict(one) for name, one in cold.items()},
        "stepping": {name: asdict(one) for name, one in stepping.items()},
        "memory_growth_bytes": growth,
    }
    in_browser = panels_browser.serve_and_measure(folder, dataset.name, "k10", steps)
    return {
        **report,
        "browser_milliseconds": in_browser,
        "broken": broken(cold, stepping, growth) + panels_browser.broken(in_browser),
    }


def broken(
    cold: dict[str, Events], stepping: dict[str, Events], growth: int
) -> list[str]:
    """List the bounds that do not hold."""
    found = []
    # The component asks for queries ahead, and does not wait for rows.
    query = stepping["query"]
    if query.median_seconds > STEP_SECONDS:
        found.append(f"query: {query.median_seconds:.3f} s, over {STEP_SECONDS} s")
    if query.worst_bytes > STEP_BYTES:
        found.append(f"query: {query.worst_bytes} bytes, over {STEP_BYTES}")
    audit, other = (cold[f"sfam_audit {key}"].median_seconds for key in ("k10", "k3"))
    if audit > AUDIT_SECONDS:
        found.append(f"sfam_audit opens in {audit:.2f} s, over {AUDIT_SECONDS} s")
    if audit > AUDIT_GROWTH * other:
        found.append(f"sfam_audit opens in {audit:.2f} s at k=10, {other:.2f} s at k=3")
    if growth > MEMORY_BYTES:
        found.append(f"memory grew by {growth / 2**20:.0f} MiB while stepping")
    return found


def stepped(dataset: fo.Dataset, steps: int) -> tuple[dict[str, Events], int]:
    """Ask what the component asks from query to query; return also memory's growth."""
    panel = PairsPanel(dataset, "k10")
    queue = panel.queue()
    for pair in queue[:WARM_UP]:
        panel.ask("query", pair=pair)
    process = psutil.Process()
    before = process.memory_info().rss
    chosen = (queue * (1 + steps // len(queue)))[WARM_UP : WARM_UP + steps]
    found = {
        "query": [panel.ask("query", pair=pair) for pair in chosen],
        "rows": [
            panel.ask("rows", pairs=queue[at : at + 20]) for at in range(0, 200, 20)
        ],
        "queue": [
            panel.ask("queue", spec={"ranks": "k", "order": order})
            for order in ("run", "false matches", "margin")
        ],
    }
    growth = process.memory_info().rss - before
    return {name: events(one) for name, one in found.items()}, growth


def cold_openings(dataset: str, panel: str, key: str) -> Events:
    """Open a panel in several new processes."""
    command = [sys.executable, __file__, "--cold", dataset, f"{panel}:{key}"]
    found = []
    for _ in range(COLD_REPEATS):
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, size = json.loads(answer.stdout.splitlines()[-1])
        found.append((seconds, size))
    return events(found)


def opened(dataset: str, which: str) -> tuple[float, int]:
    """Open a panel on one run in this process, where nothing is cached yet."""
    import fiftyone as fo

    name, key = which.split(":")
    loaded = fo.load_dataset(dataset)
    if name != "sfam_pairs":
        panel = Panel(loaded, name)
        panel.state = {"run": key}
        return panel.do("on_load")
    start = time.perf_counter()
    pairs = PairsPanel(loaded, key)
    size = pairs.bytes
    queue = pairs.queue()
    size += pairs.bytes
    pairs.ask("query", pair=queue[0])
    return time.perf_counter() - start, size + pairs.bytes


def events(found: list[tuple[float, int]]) -> Events:
    """Summarize events."""
    seconds, sizes = zip(*found, strict=True)
    return Events(
        len(found),
        statistics.median(seconds),
        max(seconds),
        round(statistics.median(sizes)),
        max(sizes),
    )


def crops(folder: Path, count: int) -> fo.Dataset:
    """Make a dataset of synthetic people: shots of the demo world, each changed."""
    import fiftyone as fo

    from fiftyone_sfam.demo.world import generate_world, render

    world = generate_world(51)
    shots = [np.asarray(render(crop).image, np.float32) for crop in world.crops]
    folder.mkdir(parents=True)
    samples = []
    for number in range(count):
        place = number % len(shots)
        random = np.random.default_rng(number)
        pixels = shots[place] * random.uniform(0.8, 1.2, 3) + random.normal(
            0, 6, shots[place].shape
        )
        path = folder / f"{number:06d}.jpg"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)
        # Each round over the shots is another set of people.
        people = f"{world.crops[place].identity}-{number // len(shots)}"
        samples.append(
            fo.Sample(str(path), identity=people, camera=world.crops[place].camera)
        )
    dataset = fo.Dataset()
    dataset.add_samples(samples, progress=False)
    return dataset


if __name__ == "__main__":
    raise SystemExit(main())
