"""Explain nearest-neighbor pairs of face and person re-ID embeddings in FiftyOne.

The names below load on first use, so that importing the package, which FiftyOne does
whenever it lists its plugins, stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fiftyone_sfam._version import __version__

if TYPE_CHECKING:
    from fiftyone_sfam.embedder import EmbeddingModel
    from fiftyone_sfam.explain import explain_retrieval
    from fiftyone_sfam.models import list_models, load_model
    from fiftyone_sfam.pair import PairExplanation, explain_contrast, explain_pair
    from fiftyone_sfam.preprocess import Preprocessing
    from fiftyone_sfam.protocol import Protocol
    from fiftyone_sfam.runs import Run, delete_run, list_runs, load_run, rename_run

__all__ = [
    "EmbeddingModel",
    "PairExplanation",
    "Preprocessing",
    "Protocol",
    "Run",
    "__version__",
    "delete_run",
    "explain_contrast",
    "explain_pair",
    "explain_retrieval",
    "list_models",
    "list_runs",
    "load_model",
    "load_run",
    "rename_run",
]

_MODULE_OF = {
    "EmbeddingModel": "embedder",
    "PairExplanation": "pair",
    "Preprocessing": "preprocess",
    "Protocol": "protocol",
    "Run": "runs",
    "delete_run": "runs",
    "explain_contrast": "pair",
    "explain_pair": "pair",
    "explain_retrieval": "explain",
    "list_models": "models",
    "list_runs": "runs",
    "load_model": "models",
    "load_run": "runs",
    "rename_run": "runs",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
