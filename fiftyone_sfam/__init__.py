"""Explain nearest-neighbor pairs of face and person re-ID embeddings in FiftyOne.

The names below load on first use. FiftyOne imports the package whenever it lists its
plugins, which must not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fiftyone_sfam._version import __version__

if TYPE_CHECKING:
    from fiftyone_sfam.attribution.masks import MaskExplanation, explain_by_masks
    from fiftyone_sfam.attribution.pair import (
        PairExplanation,
        explain_contrast,
        explain_pair,
    )
    from fiftyone_sfam.attribution.pair_path import explain_path
    from fiftyone_sfam.attribution.template import (
        TemplateExplanation,
        explain_template,
    )
    from fiftyone_sfam.audit.comparison.compare import compare_runs
    from fiftyone_sfam.audit.comparison.result import load_comparison
    from fiftyone_sfam.audit.decisions import decide_pairs, load_decisions
    from fiftyone_sfam.audit.evaluation.evaluate import (
        evaluate_retrieval,
        load_evaluation,
    )
    from fiftyone_sfam.audit.faithfulness.check import check_faithfulness
    from fiftyone_sfam.audit.faithfulness.result import load_faithfulness
    from fiftyone_sfam.audit.fixes.apply import apply_verdicts
    from fiftyone_sfam.audit.leaks import find_leaks
    from fiftyone_sfam.audit.regions.causal import check_causally
    from fiftyone_sfam.audit.regions.ledger import build_ledger, load_ledger
    from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts, load_shortcuts
    from fiftyone_sfam.audit.report.comparison import write_comparison
    from fiftyone_sfam.audit.report.write import write_report
    from fiftyone_sfam.audit.suspects.review import (
        accept_proposal,
        reject_proposal,
        review_suspects,
    )
    from fiftyone_sfam.audit.suspects.search import find_suspects, load_suspects
    from fiftyone_sfam.audit.verification.verify import (
        load_verification,
        verify_pairs,
    )
    from fiftyone_sfam.data.layouts.importer import (
        LayoutImporter,
        load_layout,
        load_protocol,
    )
    from fiftyone_sfam.data.protocol import Protocol, Within
    from fiftyone_sfam.models import list_models, load_model
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.network.opaque import OpaqueModel
    from fiftyone_sfam.network.preprocess import Preprocessing
    from fiftyone_sfam.notebook.pairs import show_pairs
    from fiftyone_sfam.pipeline.explain import explain_retrieval
    from fiftyone_sfam.pipeline.explain_pairs import explain_pairs
    from fiftyone_sfam.pipeline.manage import delete_run, rename_run
    from fiftyone_sfam.pipeline.pruning import prune
    from fiftyone_sfam.review.verdicts import get_verdicts, restore_verdict, set_verdict
    from fiftyone_sfam.runs.run import Run, list_runs, load_run

__all__ = [
    "EmbeddingModel",
    "LayoutImporter",
    "MaskExplanation",
    "OpaqueModel",
    "PairExplanation",
    "Preprocessing",
    "Protocol",
    "Run",
    "TemplateExplanation",
    "Within",
    "__version__",
    "accept_proposal",
    "apply_verdicts",
    "build_ledger",
    "check_causally",
    "check_faithfulness",
    "compare_runs",
    "decide_pairs",
    "delete_run",
    "evaluate_retrieval",
    "explain_by_masks",
    "explain_contrast",
    "explain_pair",
    "explain_pairs",
    "explain_path",
    "explain_retrieval",
    "explain_template",
    "find_leaks",
    "find_shortcuts",
    "find_suspects",
    "get_verdicts",
    "list_models",
    "list_runs",
    "load_comparison",
    "load_decisions",
    "load_evaluation",
    "load_faithfulness",
    "load_layout",
    "load_ledger",
    "load_model",
    "load_protocol",
    "load_run",
    "load_shortcuts",
    "load_suspects",
    "load_verification",
    "prune",
    "reject_proposal",
    "rename_run",
    "restore_verdict",
    "review_suspects",
    "set_verdict",
    "show_pairs",
    "verify_pairs",
    "write_comparison",
    "write_report",
]

_MODULE_OF = {
    "EmbeddingModel": "network.embedder",
    "LayoutImporter": "data.layouts.importer",
    "MaskExplanation": "attribution.masks",
    "OpaqueModel": "network.opaque",
    "PairExplanation": "attribution.pair",
    "Preprocessing": "network.preprocess",
    "Protocol": "data.protocol",
    "Run": "runs.run",
    "TemplateExplanation": "attribution.template",
    "Within": "data.protocol",
    "accept_proposal": "audit.suspects.review",
    "apply_verdicts": "audit.fixes.apply",
    "build_ledger": "audit.regions.ledger",
    "check_causally": "audit.regions.causal",
    "check_faithfulness": "audit.faithfulness.check",
    "compare_runs": "audit.comparison.compare",
    "decide_pairs": "audit.decisions",
    "delete_run": "pipeline.manage",
    "evaluate_retrieval": "audit.evaluation.evaluate",
    "explain_by_masks": "attribution.masks",
    "explain_contrast": "attribution.pair",
    "explain_pair": "attribution.pair",
    "explain_pairs": "pipeline.explain_pairs",
    "explain_path": "attribution.pair_path",
    "explain_retrieval": "pipeline.explain",
    "explain_template": "attribution.template",
    "find_leaks": "audit.leaks",
    "find_shortcuts": "audit.regions.shortcuts",
    "find_suspects": "audit.suspects.search",
    "get_verdicts": "review.verdicts",
    "list_models": "models",
    "list_runs": "runs.run",
    "load_comparison": "audit.comparison.result",
    "load_decisions": "audit.decisions",
    "load_evaluation": "audit.evaluation.evaluate",
    "load_faithfulness": "audit.faithfulness.result",
    "load_layout": "data.layouts.importer",
    "load_ledger": "audit.regions.ledger",
    "load_model": "models",
    "load_protocol": "data.layouts.importer",
    "load_run": "runs.run",
    "load_shortcuts": "audit.regions.shortcuts",
    "load_suspects": "audit.suspects.search",
    "load_verification": "audit.verification.verify",
    "prune": "pipeline.pruning",
    "reject_proposal": "audit.suspects.review",
    "rename_run": "pipeline.manage",
    "restore_verdict": "review.verdicts",
    "review_suspects": "audit.suspects.review",
    "set_verdict": "review.verdicts",
    "show_pairs": "notebook.pairs",
    "verify_pairs": "audit.verification.verify",
    "write_comparison": "audit.report.comparison",
    "write_report": "audit.report.write",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
