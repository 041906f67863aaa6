"""How far a stored embedding may be from the one that the model gives now.

It depends on the type in which the embeddings were computed. That is not recorded
anywhere, but their values show it: embeddings that left the network in 16 bits stay
rounded to that type in every field or index that stores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

StoredType = Literal["float32", "float16", "bfloat16"]

# Largest accepted ``1 - similarity``. Networks with real weights that were computed in
# bfloat16 are 0.00001 to 0.013 from their float32 embeddings, and 0.00004 in float16.
_ACCEPTED: dict[StoredType, float] = {
    "float32": 1e-3,
    "float16": 1e-3,
    "bfloat16": 2e-2,
}
# Bits of a float32 that are zero in a value that was rounded, and the last bits that
# the smaller type keeps. Values that need none of these do not show the type.
_BITS: tuple[tuple[StoredType, int, int], ...] = (
    ("bfloat16", 0x0000FFFF, 0x00070000),
    ("float16", 0x00001FFF, 0x0000E000),
)
_ROWS = 4096


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted distance of an embedding from the model's."""

    gap: float  # largest accepted 1 - similarity
    stored_as: StoredType  # the type that the stored values are rounded to

    def __str__(self) -> str:
        return f"{self.gap:g} for embeddings stored in {self.stored_as}"


def tolerance_of(vectors: NDArray[np.floating]) -> Tolerance:
    """Return the tolerance of stored embeddings, shape (N, D)."""
    stored_as = stored_type(vectors)
    return Tolerance(_ACCEPTED[stored_as], stored_as)


def stored_type(vectors: NDArray[np.floating]) -> StoredType:
    """Return the smallest type that holds all values, "float32" if there is none.

    Values such as 0, 1 and 0.5 fit into every type. So half of the values that are not
    zero must need the precision of the type.
    """
    for name, dropped, last in _BITS:
        if _is_rounded(vectors, dropped, last):
            return name
    return "float32"


def _is_rounded(vectors: NDArray[np.floating], dropped: int, last: int) -> bool:
    """Return whether no value has the dropped bits, and half have one of the last."""
    values = needed = 0
    for start in range(0, len(vectors), _ROWS):
        rows = np.ascontiguousarray(vectors[start : start + _ROWS], dtype=np.float32)
        bits = rows[np.isfinite(rows) & (rows != 0)].view(np.uint32)
        if np.any(bits & np.uint32(dropped)):
            return False
        values += len(bits)
        needed += int(np.count_nonzero(bits & np.uint32(last)))
    return values > 0 and 2 * needed >= values
