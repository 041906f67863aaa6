"""Measure how well the audit finds the defects that were planted in the demo world.

For every seed a world of people is drawn, with wrong labels, split and merged
identities, near-duplicates and shortcut identities in it; its retrieval is explained
with the packaged network; and what ``find_suspects`` and ``find_shortcuts`` report by
default is compared with what was planted. A second world per seed has no defects at
all: every finding in it is false, except for a person behind an occluder. In a third
one a few pictures are spoiled here, to measure uninformative images.

Precision is the share of the findings of a kind, above the default threshold, that were
planted as that kind: images for wrong labels and uninformative images, pairs of
identities for split ones, identities for merged ones, pairs of pictures for
near-duplicates. Recall is the share of what was planted that was found. For shortcuts
as many of the list's first identities count as there are shortcut identities.

Usage: ``python benchmarks/audit.py [--seeds 1 2 3 4 5] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isolated import isolated_database

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "audit.json"
SEEDS = (1, 2, 3, 4, 5)
RECALL, PRECISION = 0.95, 0.9
K = 5

SPOILED = ("blurred", "blank", "covered", "dark", "noise")
"""Ways in which pictures are spoiled; one picture of each."""


@dataclass(frozen=True)
class Count:
    """How findings of a kind agree with what was planted.

    Attributes
    ----------
    planted, found, right : int
        What was planted, what was found, and what of it was planted.
    false, missed : tuple of str
        What was found and not planted, and the other way round.
    """

    planted: int
    found: int
    right: int
    false: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()

    @property
    def precision(self) -> float | None:
        """Share of the findings that were planted; None without findings."""
        return self.right / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """Share of what was planted that was found; None if nothing was."""
        return self.right / self.planted if self.planted else None


def main() -> int:
    """Measure all seeds; return 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    started = time.monotonic()
    by_seed: dict[int, dict[str, Count]] = {}
    with isolated_database("sfam_audit"), tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            by_seed[seed] = {
                **planted_world(seed, Path(folder)),
                **world_without_defects(seed, Path(folder)),
                **spoiled_world(seed, Path(folder)),
            }
            print(f"seed {seed}: {line(by_seed[seed])}", flush=True)
    kinds = list(next(iter(by_seed.values())))
    totals = {
        kind: added(counts[kind] for counts in by_seed.values()) for kind in kinds
    }
    print(table(totals))
    missed = [kind for kind in TARGETS if not reached(totals[kind])]
    print(f"{time.monotonic() - started:.0f} s")
    for kind in missed:
        print(f"target missed: {kind}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        json.dumps(
            {
                "target": {"recall": RECALL, "precision": PRECISION},
                "total": {kind: as_dict(count) for kind, count in totals.items()},
                "seeds": {
                    str(seed): {kind: as_dict(count) for kind, count in counts.items()}
                    for seed, counts in by_seed.items()
                },
            },
            indent=2,
        )
        + "\n"
    )
    return 1 if missed else 0


# --------------------------------------------------------------------------------------
# Worlds
# --------------------------------------------------------------------------------------


def planted_world(seed: int, folder: Path) -> dict[str, Count]:
    """Draw a world with its default defects, and compare what is found with them."""
    from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
    from fiftyone_sfam.audit.suspects.search import (
        DUPLICATE,
        MERGED,
        MISLABELED,
        SPLIT,
        find_suspects,
    )
    from fiftyone_sfam.demo.dataset import load_demo_dataset

    dataset = load_demo_dataset(f"audit-{seed}", seed, folder / f"planted-{seed}")
    run = explained(dataset)
    suspects = find_suspects(run, split_field="split")
    planted = dataset.info["sfam_demo"]["planted"]

    def truth(kind: str, value: str) -> list[frozenset[str]]:
        return [frozenset(one[value]) for one in planted if one["kind"] == kind]

    wanted = [one["identities"][0] for one in planted if one["kind"] == "shortcut"]
    shortcuts = find_shortcuts(run, kinds=["identity"], save=False).found
    merged = [
        frozenset(one["identities"][:1])
        for one in planted
        if one["kind"] == "merged_identity"
    ]
    counts = {
        MISLABELED: compared(
            truth("wrong_label", "samples"),
            [
                frozenset([sample])
                for one in suspects.of_kind(MISLABELED)
                for sample in one.sample_ids
            ],
        ),
        SPLIT: compared(
            truth("split_identity", "identities"),
            [frozenset(one.identities) for one in suspects.of_kind(SPLIT)],
        ),
        MERGED: compared(
            merged, [frozenset(one.identities) for one in suspects.of_kind(MERGED)]
        ),
        DUPLICATE: compared(
            truth("near_duplicate", "samples"),
            [frozenset(one.sample_ids) for one in suspects.of_kind(DUPLICATE)],
        ),
        "shortcut identity": compared(
            [frozenset([name]) for name in wanted],
            [frozenset([one.value]) for one in shortcuts[: len(wanted)]],
        ),
    }
    dataset.delete()
    return counts


def world_without_defects(seed: int, folder: Path) -> dict[str, Count]:
    """Draw a world without defects, and count what is found all the same."""
    dataset = draw_without_defects(seed, folder / f"none-{seed}")
    _, found = find_without_defects(dataset, [])
    dataset.delete()
    return {"world without defects": Count(0, len(found), 0, found)}


def spoiled_world(seed: int, folder: Path) -> dict[str, Count]:
    """Draw a world without defects, spoil some pictures, and see what is found."""
    import numpy as np

    dataset = draw_without_defects(seed, folder / f"spoiled-{seed}")
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(dataset), len(SPOILED), replace=False)
    ids, paths = dataset.values(["id", "filepath"])
    for way, place in zip(SPOILED, chosen, strict=True):
        spoil(Path(paths[place]), way, generator)
    spoiled = [frozenset([ids[place]]) for place in chosen]
    uninformative, others = find_without_defects(dataset, spoiled)
    dataset.delete()
    return {
        "uninformative image": compared(spoiled, uninformative),
        "spoiled world, other findings": Count(0, len(others), 0, others),
    }


def draw_without_defects(seed: int, folder: Path) -> Any:
    """Draw a world without defects."""
    from fiftyone_sfam.demo.dataset import load_demo_dataset
    from fiftyone_sfam.demo.world import DefectPlan

    return load_demo_dataset(folder.name, seed, folder, defects=DefectPlan.none())


def find_without_defects(
    dataset: Any, spoiled: list[frozenset[str]]
) -> tuple[list[frozenset[str]], tuple[str, ...]]:
    """Return uninformative images, and the kinds of all findings that are false.

    A person behind a car or a plant is hard to recognize, too: neither.
    """
    from fiftyone_sfam.audit.suspects.search import UNINFORMATIVE, find_suspects

    suspects = find_suspects(explained(dataset), split_field="split")
    occluded = set(dataset.match({"occluder": {"$ne": "none"}}).values("id"))
    uninformative = [
        one
        for one in (
            frozenset(each.sample_ids) for each in suspects.of_kind(UNINFORMATIVE)
        )
        if one in spoiled or not one <= occluded
    ]
    false = [
        one.kind
        for one in suspects.findings
        if one.kind != UNINFORMATIVE and frozenset(one.sample_ids) not in spoiled
    ]
    false += [UNINFORMATIVE for one in uninformative if not spoiled]
    return uninformative, tuple(sorted(false))


def explained(dataset: Any) -> Any:
    """Explain a world as the demo does."""
    from fiftyone_sfam import Protocol, explain_retrieval, load_model

    protocol = Protocol(identity_field="identity", camera_field="camera")
    return explain_retrieval(dataset, load_model("demo"), k=K, protocol=protocol)


def spoil(path: Path, way: str, generator: Any) -> None:
    """Make a picture useless."""
    import numpy as np
    from PIL import Image, ImageFilter

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    color = tuple(int(value) for value in generator.integers(40, 216, 3))
    if way == "blurred":
        image = image.filter(ImageFilter.GaussianBlur(width / 5))
    elif way == "blank":
        image = Image.new("RGB", image.size, color)
    elif way == "covered":
        image.paste(color, (0, height // 12, width, height))
    elif way == "dark":
        image = image.point(lambda value: value // 16)
    else:
        noise = generator.integers(0, 256, (height, width, 3))
        image = Image.fromarray(noise.astype(np.uint8))
    image.save(path)


# --------------------------------------------------------------------------------------
# Counting
# --------------------------------------------------------------------------------------

TARGETS = (
    "mislabeled image",
    "split identity",
    "merged identity",
    "near-duplicate",
    "shortcut identity",
)
"""Kinds that a target was set for."""


def compared(planted: list[frozenset[str]], found: list[frozenset[str]]) -> Count:
    """Compare what was found with what was planted."""
    right = set(planted) & set(found)

    def named(several: Iterable[frozenset[str]]) -> tuple[str, ...]:
        return tuple(sorted(" ".join(sorted(one)) for one in several))

    return Count(
        len(planted),
        len(found),
        len(right),
        named(set(found) - right),
        named(set(planted) - right),
    )


def added(counts: Iterable[Count]) -> Count:
    """Add counts of several seeds."""
    counts = list(counts)
    return Count(
        sum(one.planted for one in counts),
        sum(one.found for one in counts),
        sum(one.right for one in counts),
    )


def reached(count: Count) -> bool:
    """Tell whether the target was reached."""
    return (count.recall or 0) >= RECALL and (count.precision or 0) >= PRECISION


def as_dict(count: Count) -> dict[str, Any]:
    """Return a count as plain data."""
    values = {**asdict(count), "precision": count.precision, "recall": count.recall}
    return {name: value for name, value in values.items() if value != ()}


def line(counts: dict[str, Count]) -> str:
    """Describe the counts of a seed in a line: right of found, right of planted."""
    return ", ".join(
        f"{kind} {one.right}/{one.found} of {one.planted}"
        for kind, one in counts.items()
    )


def table(totals: dict[str, Count]) -> str:
    """Lay out the counts of all seeds."""
    rows: list[tuple[str, ...]] = [
        ("kind", "planted", "found", "right", "precision", "recall")
    ]
    for kind, one in totals.items():
        shown = [
            "-" if value is None else f"{value:.3f}"
            for value in (one.precision, one.recall)
        ]
        rows.append((kind, str(one.planted), str(one.found), str(one.right), *shown))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
