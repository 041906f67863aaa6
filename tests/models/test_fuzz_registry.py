"""The owner's registry file, whatever is in it: a list of models, or a sentence.

Listing imports nothing and opens no weights; loading reads them without pickle.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models import list_models, load_model
from fiftyone_sfam.models.registry import read_registry
from fiftyone_sfam.network.embedder import EmbeddingModel
from fuzzing import anything, fuzz

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")

NETWORK = """
import pathlib
import torch
from torch import nn

pathlib.Path(__file__).with_name("imported").touch()

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)

    def forward(self, images):
        return self.conv(images).mean((2, 3))

def fails(*args, **kwargs):
    raise KeyboardInterrupt if args == "never" else RuntimeError("no luck")

CONSTANT = 3
"""


class Evil:
    """What a pickle may do when it is read: here it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a registry, a network, and weights of all kinds."""
    (tmp_path / "net.py").write_text(NETWORK)
    torch.save({"conv.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "part.pth")
    good = {"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.ones(4)}
    torch.save(good, tmp_path / "good.pth")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(tmp_path / "unpickled")))
    torch.save({"x": Evil(tmp_path / "unpickled")}, tmp_path / "evil2.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(tmp_path / "models.json"))
    return tmp_path


def test_any_bytes(owner: Path) -> None:
    file = owner / "models.json"
    outcomes: Counter[str] = Counter()
    whole = json.dumps(
        {"models": {"a": {"factory": "net.py:Net", "preprocess": {"size": [8, 8]}}}}
    ).encode()

    @fuzz(150)
    @given(
        noise=st.binary(max_size=40),
        at=st.integers(0, len(whole)),
        instead=st.booleans(),
        cut=st.integers(0, 5),
    )
    def check(noise: bytes, at: int, instead: bool, cut: int) -> None:
        end = at + (len(noise) if instead else 0)
        file.write_bytes(whole[:at] + noise + whole[end : len(whole) - cut])
        try:
            read_registry(file)
        except ModelError as error:
            outcomes[f"{str(file) in str(error)}"] += 1
        else:
            outcomes["read"] += 1

    check()
    assert outcomes["True"] > 20
    assert outcomes["False"] == 0
    assert not (owner / "imported").exists()


TEXTS = st.sampled_from(
    [
        *("", "net.py:Net", "net.py:fails", "net.py:CONSTANT", "net.py:", ":Net"),
        *("net:Net", "os:system", "builtins:exec", "a.b.c", "/etc/passwd", "../net.py"),
        *("good.pth", "part.pth", "evil.pth", "evil2.pth", "empty.pth", "no.pth", "."),
        *("conv", "conv.weight", "cosine", "euclidean", "bfloat16", "a\0b", "\ud800"),
    ]
) | st.text(max_size=6)
SIZE = {"size": [8, 8]}
FITTING: dict[str, st.SearchStrategy[Any]] = {
    "factory": st.sampled_from(["net.py:Net", "net.py:fails", "net.py:CONSTANT"]),
    "kwargs": st.sampled_from([{"width": 4}, {"width": 5}, {"x": 1}, {}]),
    "python_path": st.sampled_from([".", "no-such-folder"]),
    "weights": st.sampled_from(
        ["good.pth", "part.pth", "evil.pth", "evil2.pth", "empty.pth", "no.pth", "."]
    ),
    "strict": st.booleans(),
    "preprocess": st.sampled_from([SIZE, {**SIZE, "channels": "BGR"}, {"scale": 0}]),
    "layer": st.sampled_from(["conv", "nope"]),
    "metric": st.sampled_from(["cosine", "euclidean", "dot"]),
    "embedding": st.sampled_from([0, "x"]),
    "embedding_layer": st.just("conv"),
    "precision": st.sampled_from(["float32", "bfloat16"]),
    "device": st.sampled_from(["cpu", "cpu:0", "cuda:99", "meta"]),
    "description": st.text(max_size=8),
    "weights_key": TEXTS,
    "strip_prefix": TEXTS,
    "preprocess_factory": TEXTS,
}


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a model's entry that is right or nearly right."""
    entry: dict[str, Any] = {"factory": "net.py:Net", "preprocess": SIZE}
    keys = st.lists(st.sampled_from(sorted(FITTING)), max_size=3, unique=True)
    for key in draw(keys):
        dice = draw(st.integers(0, 4))
        entry[key] = draw(FITTING[key] if dice else TEXTS | anything(TEXTS))
    return entry


def test_any_entry_is_listed_and_loaded_or_refused(owner: Path) -> None:
    outcomes: Counter[str] = Counter()
    told: list[str] = []

    @fuzz(150)
    @given(entry=entries())
    def check(entry: dict[str, Any]) -> None:
        (owner / "models.json").write_text(json.dumps({"models": {"mine": entry}}))
        (owner / "imported").unlink(missing_ok=True)
        try:
            names = [one.name for one in list_models()]
        except ModelError as error:
            told.append(str(error))
            outcomes["not listed"] += 1
        else:
            assert names[0] == "mine"
        # Listing has imported nothing.
        assert not (owner / "imported").exists()
        try:
            model = load_model("mine")
            assert isinstance(model, EmbeddingModel)
            model.embed(torch.zeros(1, 3, 8, 8))
            outcomes["loaded"] += 1
        except ModelError as error:
            told.append(str(error))
            outcomes["refused"] += 1

    check()
    assert [one for one in told if "\n" in one or not one.endswith((".", "?"))] == []
    assert outcomes["loaded"] > 10
    assert outcomes["refused"] > outcomes["not listed"] > 5
    # No pickle was read, and no folder stays on the path.
    assert not (owner / "unpickled").exists()
    assert str(owner) not in sys.path
