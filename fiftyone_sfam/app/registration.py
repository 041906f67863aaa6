"""The operators and panels that the plugin offers to FiftyOne."""

from __future__ import annotations

from fiftyone_sfam.app.audit.panel import SfamAudit
from fiftyone_sfam.app.operators.apply_verdicts import ApplyVerdicts
from fiftyone_sfam.app.operators.check_faithfulness import CheckFaithfulness
from fiftyone_sfam.app.operators.compare_runs import CompareRuns
from fiftyone_sfam.app.operators.decide_pairs import DecidePairs
from fiftyone_sfam.app.operators.evaluate_retrieval import EvaluateRetrieval
from fiftyone_sfam.app.operators.explain_pairs import ExplainPairs
from fiftyone_sfam.app.operators.explain_regions import ExplainRegions
from fiftyone_sfam.app.operators.explain_retrieval import ExplainRetrieval
from fiftyone_sfam.app.operators.explain_selected import ExplainSelected
from fiftyone_sfam.app.operators.explain_these import ExplainThese, ExplainThis
from fiftyone_sfam.app.operators.find_suspects import FindSuspects
from fiftyone_sfam.app.operators.manage_runs import ManageRuns
from fiftyone_sfam.app.operators.open_workspace import OpenWorkspace
from fiftyone_sfam.app.operators.show_pairs import ShowPairs
from fiftyone_sfam.app.operators.verify_pairs import VerifyPairs
from fiftyone_sfam.app.operators.write_report import WriteReport
from fiftyone_sfam.app.pairs.panel import SfamPairs

OPERATORS: tuple[type, ...] = (
    ExplainRetrieval,
    ExplainPairs,
    ExplainSelected,
    ExplainThese,
    ExplainThis,
    ShowPairs,
    ManageRuns,
    EvaluateRetrieval,
    VerifyPairs,
    DecidePairs,
    FindSuspects,
    ExplainRegions,
    CheckFaithfulness,
    CompareRuns,
    ApplyVerdicts,
    WriteReport,
    OpenWorkspace,
)
PANELS: tuple[type, ...] = (SfamPairs, SfamAudit)
