"""The questions that the component asks, with what answers each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import fiftyone.operators as foo

from fiftyone_sfam.app.pairs.run_question import RunQuestion, StaleRunError

__all__ = ["QUESTIONS", "Answer", "RunQuestion", "StaleRunError"]

Answer = Callable[[foo.ExecutionContext], dict[str, Any]]

QUESTIONS: Mapping[str, Answer] = {"open": lambda ctx: {"runs": []}}
