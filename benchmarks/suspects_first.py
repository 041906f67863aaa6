"""The first findings of find_suspects in the real images themselves, to be looked at.

Nothing is planted: prints the findings with their figures and the names of their files,
and draws their images into a folder outside the checkout, as the images are private.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from check_real import CASES, load_case, make_dataset
from isolated import isolated_database

TITLES = ("osnet", "hse_faceres", "mobilefacenet", "dlib", "edgeface")
K = 5
FIRST = 10
# Low enough that there are ten to look at, also where few reach the threshold.
LEAST = 0.05


def print_first(assets: Path, only: str, sheets: Path | None) -> None:
    """Print the first findings of the networks whose title is part of ``only``."""
    with isolated_database("sfam_check_suspects"):
        for case in CASES:
            wanted = not only or case.title in only or only in case.title
            if case.layer is None and case.title in TITLES and wanted:
                _print_case(case, assets, sheets)


def _print_case(case: Any, assets: Path, sheets: Path | None) -> None:
    from fiftyone_sfam import Protocol, explain_retrieval
    from fiftyone_sfam.audit.suspects.search import MIN_SCORE, find_suspects

    model, folder = load_case(case, assets)
    dataset = make_dataset(folder)
    cameras = any(dataset.values("camera"))
    protocol = Protocol("identity", camera_field="camera" if cameras else None)
    run = explain_retrieval(dataset, model, k=K, protocol=protocol)
    suspects = find_suspects(run, region_field=None, min_score=LEAST)
    above = Counter(one.kind for one in suspects.findings if one.score >= MIN_SCORE)
    paths = dataset.values("filepath")
    print(f"\n{case.title}: {len(paths)} images, above the threshold {dict(above)}")
    for limit in suspects.limits:
        print(f"  ({limit})")
    for number, one in enumerate(suspects.findings[:FIRST], start=1):
        print(f"  {number:2}. {one.score:.2f} {one.kind}: {one.sentence}")
        names = [Path(paths[item]).name for item in one.items]
        print(f"      {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}")
        if sheets is not None:
            draw_sheet(run, one, paths, sheets / f"{case.title}-{number:02}.png")
    dataset.delete()


def draw_sheet(run: Any, finding: Any, paths: list[str], target: Path) -> None:
    """Draw the images of a finding above those of the identities that it names."""
    from PIL import Image

    height, most = 160, 10
    rows = [list(finding.items)[:most]]
    for name in finding.identities:
        members = [item for item, own in enumerate(run.items.identities) if own == name]
        rows.append([item for item in members if item not in rows[0]][:most])
    sheet = Image.new("RGB", (most * height, len(rows) * (height + 6)), "white")
    for down, row in enumerate(rows):
        for right, item in enumerate(row):
            with Image.open(paths[item]) as opened:
                image = opened.convert("RGB")
            image.thumbnail((height, height))
            sheet.paste(image, (right * height, down * (height + 6)))
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)
