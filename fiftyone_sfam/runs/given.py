"""The list of pairs that a run was given, as a blob."""

from __future__ import annotations

from fiftyone_sfam.data.pair_list import PairList
from fiftyone_sfam.retrieval.given import GivenPairs
from fiftyone_sfam.runs.blobs import BlobStore, from_json_array, json_array

GIVEN = "given"
"""Name of the blob."""

_COLUMNS = ("label", "fold", "rank", "score")


def write_given(store: BlobStore, given: GivenPairs) -> None:
    """Store a list."""
    listed = given.listed
    texts = {
        "query": listed.query,
        "gallery": listed.gallery,
        "reasons": given.reasons,
    }
    store.put(
        GIVEN,
        {
            "pair": given.pair,
            "texts": json_array(texts),
            **{name: getattr(listed, name) for name in _COLUMNS},
        },
    )


def read_given(store: BlobStore) -> GivenPairs:
    """Read a stored list."""
    arrays = store.get(GIVEN)
    texts = from_json_array(arrays["texts"])
    listed = PairList(
        query=tuple(texts["query"]),
        gallery=tuple(texts["gallery"]),
        **{name: arrays[name] for name in _COLUMNS},
    )
    reasons = {int(row): reason for row, reason in texts["reasons"].items()}
    return GivenPairs(listed=listed, pair=arrays["pair"], reasons=reasons)
