"""How many examples the tests that throw dice take, and with which dice.

By default they are few and the same each time. ``FIFTYONE_SFAM_FUZZ=N`` takes up to N,
new ones each time, as ``make soak`` does.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

SOAK = int(os.environ.get("FIFTYONE_SFAM_FUZZ", "0"))


def fuzz(examples: int) -> settings:
    """Return the settings of a test that takes some examples by default."""
    return settings(
        phases=(Phase.explicit, Phase.generate),
        max_examples=SOAK or examples,
        derandomize=not SOAK,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,
            HealthCheck.data_too_large,
        ],
    )


def anything(texts: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Any]:
    """Whatever JSON can hold, as a request that was made by hand may send it."""
    texts = st.text(max_size=12) if texts is None else texts
    numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2, 0.5, 10**30])
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=4,
    )
