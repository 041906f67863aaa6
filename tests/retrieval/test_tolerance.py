"""The type that stored embeddings were computed in decides how far they may be off."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fiftyone_sfam.retrieval.tolerance import stored_type, tolerance_of


def vectors(rows: int = 10, columns: int = 64) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, columns)).astype(np.float32)


def rounded(values: NDArray[np.float32], dtype: torch.dtype) -> NDArray[np.float32]:
    return torch.from_numpy(values).to(dtype).float().numpy()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize(
    ("dtype", "name", "gap"),
    [
        (torch.float32, "float32", 1e-3),
        (torch.float16, "float16", 1e-3),
        (torch.bfloat16, "bfloat16", 2e-2),
    ],
)
def test_rounding_is_found(
    dtype: torch.dtype, name: str, gap: float, scale: float
) -> None:
    found = tolerance_of(rounded(scale * vectors(), dtype))
    assert (found.stored_as, found.gap) == (name, gap)
    assert str(found) == f"{gap:g} for embeddings stored in {name}"


def test_one_value_of_higher_precision_is_enough() -> None:
    values = rounded(vectors(5000), torch.bfloat16)
    assert stored_type(values) == "bfloat16"
    values[4500, 3] = np.float32(0.1)
    assert stored_type(values) == "float32"


def test_the_type_of_the_array_does_not_matter() -> None:
    values = rounded(vectors(), torch.bfloat16)
    assert stored_type(values.astype(np.float64)) == "bfloat16"
    assert stored_type(values[:, ::2]) == "bfloat16"
    assert stored_type(vectors().astype(np.float16)) == "float16"


def test_values_that_fit_into_every_type_show_none() -> None:
    for values in (np.eye(4), np.zeros((3, 4)), np.ones((0, 4)), np.full((2, 2), 0.5)):
        assert stored_type(values.astype(np.float32)) == "float32"
    broken = rounded(vectors(), torch.bfloat16)
    broken[0, 0] = np.nan
    broken[1] = 0
    assert stored_type(broken) == "bfloat16"
