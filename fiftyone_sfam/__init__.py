"""Explain nearest-neighbor pairs of face and person re-ID embeddings in FiftyOne.

The names below load on first use, so that importing the package, which FiftyOne does
whenever it lists its plugins, stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fiftyone_sfam._version import __version__

if TYPE_CHECKING:
    from fiftyone_sfam.audit.causal import check_causally
    from fiftyone_sfam.audit.evaluation_run import evaluate_retrieval, load_evaluation
    from fiftyone_sfam.audit.faithfulness import check_faithfulness, load_faithfulness
    from fiftyone_sfam.audit.fixes_apply import apply_verdicts
    from fiftyone_sfam.audit.ledger import build_ledger, load_ledger
    from fiftyone_sfam.audit.report import write_report
    from fiftyone_sfam.audit.shortcuts import find_shortcuts, load_shortcuts
    from fiftyone_sfam.audit.suspects import find_suspects, load_suspects
    from fiftyone_sfam.embedder import EmbeddingModel
    from fiftyone_sfam.explain import explain_retrieval
    from fiftyone_sfam.models import list_models, load_model
    from fiftyone_sfam.pair import PairExplanation, explain_contrast, explain_pair
    from fiftyone_sfam.pair_path import explain_path
    from fiftyone_sfam.preprocess import Preprocessing
    from fiftyone_sfam.protocol import Protocol
    from fiftyone_sfam.pruning import prune
    from fiftyone_sfam.runs import Run, delete_run, list_runs, load_run, rename_run
    from fiftyone_sfam.verdicts import get_verdicts, restore_verdict, set_verdict

__all__ = [
    "EmbeddingModel",
    "PairExplanation",
    "Preprocessing",
    "Protocol",
    "Run",
    "__version__",
    "apply_verdicts",
    "build_ledger",
    "check_causally",
    "check_faithfulness",
    "delete_run",
    "evaluate_retrieval",
    "explain_contrast",
    "explain_pair",
    "explain_path",
    "explain_retrieval",
    "find_shortcuts",
    "find_suspects",
    "get_verdicts",
    "list_models",
    "list_runs",
    "load_evaluation",
    "load_faithfulness",
    "load_ledger",
    "load_model",
    "load_run",
    "load_shortcuts",
    "load_suspects",
    "prune",
    "rename_run",
    "restore_verdict",
    "set_verdict",
    "write_report",
]

_MODULE_OF = {
    "EmbeddingModel": "embedder",
    "PairExplanation": "pair",
    "Preprocessing": "preprocess",
    "Protocol": "protocol",
    "Run": "runs",
    "apply_verdicts": "audit.fixes_apply",
    "build_ledger": "audit.ledger",
    "check_causally": "audit.causal",
    "check_faithfulness": "audit.faithfulness",
    "delete_run": "runs",
    "evaluate_retrieval": "audit.evaluation_run",
    "explain_contrast": "pair",
    "explain_pair": "pair",
    "explain_path": "pair_path",
    "explain_retrieval": "explain",
    "find_shortcuts": "audit.shortcuts",
    "find_suspects": "audit.suspects",
    "get_verdicts": "verdicts",
    "list_models": "models",
    "list_runs": "runs",
    "load_evaluation": "audit.evaluation_run",
    "load_faithfulness": "audit.faithfulness",
    "load_ledger": "audit.ledger",
    "load_model": "models",
    "load_run": "runs",
    "load_shortcuts": "audit.shortcuts",
    "load_suspects": "audit.suspects",
    "prune": "pruning",
    "rename_run": "runs",
    "restore_verdict": "verdicts",
    "set_verdict": "verdicts",
    "write_report": "audit.report",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
