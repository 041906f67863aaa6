"""Check the maps of many networks: they add up to the score, and follow the image.

The networks are those of timm, torchvision, open_clip, transformers, facenet-pytorch
and pytorch-metric-learning, and some that are written by hand. They have random weights
and small inputs. For each one the layer is found, a pair of images is explained, and
the parts of the score are added up with a remainder that is computed independently, see
``architectures_measured.py``. Prints a table, writes
``benchmarks/out/architectures.json`` and ends with exit code 1 if a bound is broken.

Usage: ``python benchmarks/check_architectures.py [--only PART_OF_A_NAME ...]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from architectures_measured import Row

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "architectures.json"

COLUMNS = (
    ("library", 23),
    ("network", 31),
    ("layer", 28),
    ("layout", 6),
    ("map", 11),
    ("prefix", 6),
    ("all", 3),
    ("score", 7),
    ("evidence", 8),
    ("on prefix", 9),
    ("remainder", 9),
    ("error", 7),
    ("forward", 7),
    ("single", 7),
    ("float64", 7),
    ("moves", 13),
    ("before", 6),
    ("share", 6),
    ("s", 5),
)


def main() -> int:
    """Check the networks; return the exit code."""
    from architectures import cases
    from architectures_measured import measured

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="parts of libraries or names")
    arguments = parser.parse_args()
    chosen = [
        case
        for case in cases()
        if not arguments.only
        or any(part in f"{case.library} {case.name}" for part in arguments.only)
    ]
    print("  ".join(f"{title:{width}}" for title, width in COLUMNS))
    rows = []
    for case in chosen:
        rows.append(measured(case))
        print("\n".join(lines(rows[-1])), flush=True)
    if not arguments.only:
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    broken = [row for row in rows if row.broken]
    refused = sum(bool(row.refusal) for row in rows)
    print(
        f"\n{len(rows)} networks, {refused} refused, {len(broken)} with broken bounds"
    )
    for row in broken:
        print(f"  {row.library} {row.name}: {', '.join(row.broken)}")
    return 1 if broken else 0


def lines(row: Row) -> Iterator[str]:
    """Lay out a row of the table, with a second line if something is wrong."""
    cells: tuple[str, ...] = (row.library, row.name)
    if not row.refusal:
        cells += (
            row.layer if len(row.layer) <= 28 else "..." + row.layer[-25:],
            row.layout,
            "x".join(map(str, row.shape)),
            str(row.prefix_tokens),
            "yes" if row.carries_all else "no",
            f"{row.score:7.4f}",
            f"{row.evidence:8.4f}",
            f"{row.prefix:9.4f}",
            f"{row.remainder:9.4f}",
            f"{row.sum_error:.1e}",
            f"{row.forward_error:.1e}",
            f"{row.single_error:.1e}",
            "" if isnan(row.double_error) else f"{row.double_error:.1e}",
            "{:+.3f} {:+.3f}".format(*row.moves),
            f"{row.share_before:6.2f}",
            f"{row.share:6.2f}",
            f"{row.seconds:5.1f}",
        )
    widths = [width for _, width in COLUMNS]
    yield "  ".join(
        f"{cell:{width}}" for cell, width in zip(cells, widths, strict=False)
    ).rstrip()
    if row.refusal:
        yield f"    refused: {row.refusal}"
    if row.broken:
        yield f"    BROKEN: {', '.join(row.broken)}"


if __name__ == "__main__":
    sys.exit(main())
