"""Weights are read without running code, and fit or say why not."""

from __future__ import annotations

import builtins
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compat import needs_checkpoints
from fiftyone_sfam.errors import ModelError, SfamWarning
from fiftyone_sfam.models.weights import apply_state_dict, load_state_dict

TORCH = pytest.param(".pth", marks=needs_checkpoints)


class Trap:
    """Creates a file as soon as it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.victim),))


@needs_checkpoints
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["archive", "legacy", "pickle", "nested"])
def test_pickles_with_code_are_refused(tmp_path: Path, form: str) -> None:
    file, victim = tmp_path / "evil.pth", tmp_path / "was-here"
    trap: Any = Trap(victim)
    if form == "pickle":
        file.write_bytes(pickle.dumps(trap))
    else:
        content = {"weight": torch.ones(2), "x": trap} if form == "nested" else trap
        torch.save(content, file, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(ModelError, match="not loaded, because loading it could run"):
        load_state_dict(file)
    assert not victim.exists()
    # The trap does work where pickles are trusted.
    if form == "pickle":
        pickle.loads(file.read_bytes())  # noqa: S301
        assert victim.exists()


@needs_checkpoints
def test_whole_networks_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "network.pth"
    torch.save(nn.Linear(2, 2), file)
    with pytest.raises(ModelError, match=r"save the network's state_dict\(\) alone"):
        load_state_dict(file)


@pytest.mark.parametrize("suffix", [TORCH, ".safetensors"])
def test_half_precision_becomes_float32(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"half{suffix}"
    state = {
        "half": torch.tensor([0.5, 1 / 3], dtype=torch.half),
        "brain": torch.tensor([3.0], dtype=torch.bfloat16),
        "double": torch.tensor([0.1], dtype=torch.double),
        "count": torch.tensor(7),
    }
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    loaded = load_state_dict(file)
    assert {name: value.dtype for name, value in loaded.items()} == {
        "half": torch.float32,
        "brain": torch.float32,
        "double": torch.double,
        "count": torch.int64,
    }
    assert loaded["half"].tolist() == [0.5, 0.333251953125]
    assert loaded["count"].item() == 7


@needs_checkpoints
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize(
    "value",
    [np.float64(0.5), np.float32(2), np.float16(1), np.int64(3), np.bool_(True)],
    ids=lambda value: type(value).__name__,
)
def test_scalars_of_numpy_beside_the_tensors(
    tmp_path: Path, value: Any, archive: bool
) -> None:
    file = tmp_path / "net.pth.tar"
    content = {"state_dict": {"a": torch.ones(2)}, "rank1": value, "epoch": 3}
    torch.save(content, file, _use_new_zipfile_serialization=archive)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    assert load_state_dict(file, key=("state_dict",))["a"].tolist() == [1, 1]
    # What numpy needs is allowed while the file is read, and not afterwards.
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)


@needs_checkpoints
def test_scalars_of_older_versions_of_numpy(tmp_path: Path) -> None:
    new, old = tmp_path / "new.pth", tmp_path / "old.pth"
    torch.save({"net": {"a": torch.ones(2)}, "rank1": np.float64(0.5)}, new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b"numpy._core", b"numpy.core"))
    assert load_state_dict(old, key=("net",))["a"].tolist() == [1, 1]


@needs_checkpoints
@pytest.mark.parametrize(
    "value",
    [
        np.ones(2),
        np.array([Path("x")]),
        np.dtype([("a", object)]),
        np.random.default_rng(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_of_numpy_are_refused(tmp_path: Path, value: Any) -> None:
    file = tmp_path / "net.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}, "other": value}, file)
    with pytest.raises(ModelError, match="not loaded, because loading it could run"):
        load_state_dict(file, key=("state_dict",))


@needs_checkpoints
def test_nested_checkpoints(tmp_path: Path) -> None:
    file = tmp_path / "nested.pth"
    inner = OrderedDict([("module.a", torch.ones(1)), ("b", torch.zeros(1))])
    torch.save({"epoch": 3, "best": {"model": inner}}, file)
    state = load_state_dict(file, key=("best", "model"), strip_prefix="module.")
    assert {name: value.item() for name, value in state.items()} == {"a": 1, "b": 0}
    with pytest.raises(ModelError, match=r"nested; name the entry .* one of 'best'"):
        load_state_dict(file)
    with pytest.raises(ModelError, match="no entry 'modle'; it has 'model'"):
        load_state_dict(file, key=("best", "modle"))
    with pytest.raises(ModelError, match="no entry 'x'; it has no entries"):
        load_state_dict(file, key=("epoch", "x"))
    with pytest.raises(ModelError, match="holds int where a state dict is needed"):
        load_state_dict(file, key=("epoch",))
    with pytest.raises(
        ModelError, match=r"starts with strip_prefix 'net\.'; the first"
    ):
        load_state_dict(file, key=("best", "model"), strip_prefix="net.")


@needs_checkpoints
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"weight": torch.ones(1), "epoch": 3}, "'epoch' is not a tensor"),
        ({}, "it is empty"),
        ([torch.ones(1)], "holds list where a state dict is needed"),
    ],
)
def test_no_state_dict(tmp_path: Path, content: Any, problem: str) -> None:
    file = tmp_path / "other.pth"
    torch.save(content, file)
    with pytest.raises(ModelError, match=problem):
        load_state_dict(file)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x.pth", marks=needs_checkpoints),
        "x.safetensors",
        pytest.param("x.bin", marks=needs_checkpoints),
    ],
)
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no archive" * 9])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ModelError, match=f"the weights file .*{name} (is not a|holds)"):
        load_state_dict(file)


@needs_checkpoints
def test_truncated_archive(tmp_path: Path) -> None:
    file = tmp_path / "short.pth"
    torch.save({"weight": torch.ones(1000)}, file)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ModelError, match="is not a checkpoint that torch can read"):
        load_state_dict(file)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pth does not exist"):
        load_state_dict(tmp_path / "none.pth")
    with pytest.raises(ModelError, match="does not exist"):
        load_state_dict(tmp_path)


def test_safetensors_is_an_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1)}, file)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "safetensors":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=r"'fiftyone-sfam\[safetensors\]'"):
        load_state_dict(file)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)


def test_weights_that_fit() -> None:
    network = Small()
    state = {name: torch.full_like(v, 2) for name, v in network.state_dict().items()}
    apply_state_dict(network, state)
    assert network.conv.bias.tolist() == [2.0] * 4
    assert network.norm.num_batches_tracked.item() == 2


def test_weights_that_do_not_fit_change_nothing() -> None:
    network = Small()
    before = {name: v.clone() for name, v in network.state_dict().items()}
    state = {name: torch.full_like(v, 2) for name, v in network.state_dict().items()}
    state["conv.weight"] = torch.ones(4, 3, 3, 3)
    del state["conv.bias"], state["norm.running_var"]
    state |= {f"fc.{i}": torch.ones(1) for i in range(6)}
    with pytest.raises(ModelError) as caught:
        apply_state_dict(network, state)
    assert str(caught.value) == (
        "the weights do not fit the network Small: 1 of another shape (conv.weight "
        "(4, 3, 3, 3) instead of (4, 3, 1, 1)); 2 missing (conv.bias, "
        "norm.running_var); 6 unexpected (fc.0, fc.1, fc.2, fc.3, ...); correct "
        "weights_key or strip_prefix, build the network without the missing weights, "
        "or name those that may keep their initial values in allow_missing, such as "
        '["classifier.*"].'
    )
    with pytest.raises(ModelError, match=r"1 of another shape \(conv\.weight"):
        apply_state_dict(network, state, strict=False)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_weights_that_the_network_does_not_use_are_named() -> None:
    network = Small()
    state = {name: torch.full_like(v, 2) for name, v in network.state_dict().items()}
    state |= {"classifier.weight": torch.ones(9), "classifier.bias": torch.ones(9)}
    # Counts batches in training, and is used for nothing else.
    del state["norm.num_batches_tracked"]
    with pytest.warns(SfamWarning) as caught:
        apply_state_dict(network, state, strict=False, source="net.pth")
    assert [str(warning.message) for warning in caught] == [
        "the network Small does not use 2 weights of net.pth (classifier.weight, "
        "classifier.bias)."
    ]
    assert network.norm.running_var.tolist() == [2.0] * 4
    assert network.norm.num_batches_tracked.item() == 0
    with pytest.raises(ModelError) as strict:
        apply_state_dict(network, state)
    assert str(strict.value) == (
        "the weights do not fit the network Small: 2 unexpected (classifier.weight, "
        'classifier.bias); "strict": false allows unexpected names.'
    )
    with pytest.raises(ModelError, match=r"6 missing .*; 1 unexpected"):
        apply_state_dict(network, {"classifier.weight": torch.ones(9)}, strict=False)


def test_missing_weights_are_refused() -> None:
    network = Small()
    before = {name: v.clone() for name, v in network.state_dict().items()}
    state = {"conv.bias": torch.arange(4.0), "classifier.weight": torch.ones(9)}
    for allowed in ((), ("classifier.*", "conv", "norm.running_*")):
        with pytest.raises(ModelError) as caught:
            apply_state_dict(network, state, strict=False, allow_missing=allowed)
        names = "conv.weight, norm.weight, norm.bias"
        listed = f"3 missing ({names})"
        if not allowed:
            listed = f"5 missing ({names}, norm.running_mean, ...)"
        assert str(caught.value) == (
            f"the weights do not fit the network Small: {listed}; 1 unexpected "
            "(classifier.weight); correct weights_key or strip_prefix, build the "
            "network without the missing weights, or name those that may keep their "
            'initial values in allow_missing, such as ["classifier.*"].'
        )
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("strict", [True, False])
def test_missing_weights_that_are_allowed_keep_their_values(strict: bool) -> None:
    network = Small()
    before = {name: v.clone() for name, v in network.state_dict().items()}
    state = {"conv.bias": torch.arange(4.0), "conv.weight": torch.ones(4, 3, 1, 1)}
    apply_state_dict(network, state, strict=strict, allow_missing=["norm.*"])
    assert network.conv.bias.tolist() == [0, 1, 2, 3]
    assert torch.equal(network.norm.weight, before["norm.weight"])
    # A weight of another shape is not a missing one.
    state["norm.weight"] = torch.ones(5)
    with pytest.raises(ModelError, match=r"1 of another shape \(norm\.weight \(5,\)"):
        apply_state_dict(network, state, strict=strict, allow_missing=["norm.*"])


def test_a_prefix_of_some_names_does_not_hide_missing_weights() -> None:
    network = Small()
    state = {
        name if name.startswith("conv") else f"module.{name}": value
        for name, value in network.state_dict().items()
    }
    with pytest.raises(ModelError, match=r"4 missing \(norm\.weight, .*; 5 unexpected"):
        apply_state_dict(network, state, strict=False)


def test_a_tied_weight_is_needed_once() -> None:
    network = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    network["b"].weight = network["a"].weight
    state = {"a.weight": torch.ones(2, 2), "a.bias": torch.ones(2)}
    with pytest.raises(ModelError, match=r": 1 missing \(b\.bias\); correct"):
        apply_state_dict(network, state, strict=False)
    apply_state_dict(network, {**state, "b.bias": torch.ones(2)}, strict=False)
    assert network["b"].weight.tolist() == [[1, 1], [1, 1]]
