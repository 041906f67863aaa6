"""The questions that the component asks, with what answers each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import fiftyone.operators as foo

from fiftyone_sfam.app.pairs.opened import answer_explain, answer_open
from fiftyone_sfam.app.pairs.places import answer_locate, answer_show
from fiftyone_sfam.app.pairs.queue import answer_queue
from fiftyone_sfam.app.pairs.rows import answer_rows
from fiftyone_sfam.app.pairs.run_question import StaleRunError
from fiftyone_sfam.app.pairs.verdicts import answer_undo, answer_verdict

__all__ = ["QUESTIONS", "Answer", "StaleRunError"]

Answer = Callable[[foo.ExecutionContext], dict[str, Any]]

QUESTIONS: Mapping[str, Answer] = {
    "open": answer_open,
    "explain": answer_explain,
    "queue": answer_queue,
    "rows": answer_rows,
    "verdict": answer_verdict,
    "undo": answer_undo,
    "locate": answer_locate,
    "show": answer_show,
}
