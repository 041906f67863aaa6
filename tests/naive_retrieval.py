"""Retrieval by its definition, pair by pair."""

from __future__ import annotations

import math


def naive(vectors, labels, cameras, splits, protocol, query, metric):
    """Rank the gallery of one query by its definition; None if it is no query."""
    if labels[query] in (*protocol.junk, *protocol.distractors):
        return None
    if protocol.split_field and "query" not in splits[query]:
        return None
    ranked = []
    for other in range(len(vectors)):
        same = labels[query] is not None and labels[query] == labels[other]
        seen = cameras[query] is not None and cameras[query] == cameras[other]
        if (
            labels[other] in protocol.junk
            or (protocol.split_field and "gallery" not in splits[other])
            or (protocol.exclude_self and other == query)
            or (protocol.camera_field and same and seen)
            or (
                protocol.exclude_duplicates and (vectors[query] == vectors[other]).all()
            )
        ):
            continue
        dot = float(vectors[query] @ vectors[other])
        squares = (
            float(vectors[query] @ vectors[query]),
            float(vectors[other] @ vectors[other]),
        )
        if metric == "cosine":
            similarity = dot / (math.sqrt(squares[0]) * math.sqrt(squares[1]))
            distance, key = 1 - similarity, -similarity
        else:
            key = squares[0] + squares[1] - 2 * dot
            distance = math.sqrt(key)
            similarity = 2 * dot / (squares[0] + squares[1])
        ranked.append((key, other, similarity, distance, same))
    return sorted(ranked)
