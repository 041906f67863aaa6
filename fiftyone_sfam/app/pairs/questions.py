"""The questions that the component asks, with what answers each."""

from __future__ import annotations

from fiftyone_sfam.app.pairs.correspondences import answer_correspondences
from fiftyone_sfam.app.pairs.live_maps import answer_channels, answer_live
from fiftyone_sfam.app.pairs.opened import answer_explain, answer_open
from fiftyone_sfam.app.pairs.places import answer_locate, answer_show
from fiftyone_sfam.app.pairs.query import answer_picture, answer_query
from fiftyone_sfam.app.pairs.queue import answer_queue
from fiftyone_sfam.app.pairs.rows import answer_rows
from fiftyone_sfam.app.pairs.run_question import Questions
from fiftyone_sfam.app.pairs.selected import answer_selected
from fiftyone_sfam.app.pairs.verdicts import answer_undo, answer_verdict

QUESTIONS: Questions = {
    "open": answer_open,
    "explain": answer_explain,
    "queue": answer_queue,
    "rows": answer_rows,
    "query": answer_query,
    "picture": answer_picture,
    "correspondences": answer_correspondences,
    "live": answer_live,
    "channels": answer_channels,
    "selected": answer_selected,
    "verdict": answer_verdict,
    "undo": answer_undo,
    "locate": answer_locate,
    "show": answer_show,
}
