"""Write the example of a report: an audit of the demo people, with pictures.

Usage: ``make example-report``. Draws the demo people into a separate database, explains
and audits them, gives verdicts as a reviewer would, and writes
``docs/example-report.html``, which ``make docs`` copies into the site.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fiftyone_sfam import Run
    from fiftyone_sfam.audit.suspects.search import Suspects

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "docs" / "example-report.html"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # FiftyOne reads these when it is imported.
        os.environ.update(
            FIFTYONE_DATABASE_NAME=f"sfam_example_{os.getpid()}",
            FIFTYONE_DEFAULT_DATASET_DIR=folder,
            FIFTYONE_DO_NOT_TRACK="true",
            FIFTYONE_SHOW_PROGRESS_BARS="false",
        )
        from fiftyone.core.odm import drop_database

        from fiftyone_sfam.audit.report.write import write_report

        try:
            run = audited_demo()
            files = write_report(
                run, Path(folder, "report"), images=True, parquet=False
            )
            shutil.copyfile(files.page, EXAMPLE)
        finally:
            drop_database()
    print(f"{EXAMPLE.relative_to(ROOT)}: {EXAMPLE.stat().st_size:,} bytes")


def audited_demo() -> Run:
    """Explain and audit the demo people."""
    from fiftyone_sfam import Protocol, explain_retrieval, load_model
    from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
    from fiftyone_sfam.audit.regions.causal import check_causally
    from fiftyone_sfam.audit.regions.ledger import build_ledger
    from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
    from fiftyone_sfam.audit.suspects.search import find_suspects
    from fiftyone_sfam.demo.dataset import load_demo_dataset

    model = load_model("demo")
    dataset = load_demo_dataset("sfam-demo")
    protocol = Protocol(identity_field="identity", camera_field="camera")
    run = explain_retrieval(dataset, model, key="sfam", k=5, protocol=protocol)
    evaluate_retrieval(run, slices=["camera", "occluder"], pair_slices=["camera"])
    give_verdicts(run, find_suspects(run))
    ledger = build_ledger(run, "person", by=["camera pair"])
    check_causally(run, model, ledger=ledger)
    find_shortcuts(run, ledger)
    return run


def give_verdicts(run: Run, suspects: Suspects) -> None:
    """Give verdicts on some findings, and on false matches that are none of them."""
    from fiftyone_sfam.audit.suspects.search import MISLABELED, SPLIT
    from fiftyone_sfam.review.verdicts import get_verdicts, set_verdict

    for kind, verdict in ((MISLABELED, "wrong label"), (SPLIT, "same person")):
        for finding in suspects.of_kind(kind):
            if finding.pairs:
                set_verdict(run, finding.pairs[0], verdict)
    given, pairs = get_verdicts(run), run.pairs
    suspected = {item for finding in suspects.findings for item in finding.items}
    false_matches = [
        pair
        for pair in range(len(pairs))
        if pairs.rank[pair] == 1
        and pairs.outcome[pair] == 1
        and pair not in given
        and not suspected & {int(pairs.query[pair]), int(pairs.gallery[pair])}
    ]
    for pair in false_matches[:6]:
        set_verdict(run, pair, "background", "the same wall behind both people")


if __name__ == "__main__":
    main()
