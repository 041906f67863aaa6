"""Read networks that dlib has serialized, without dlib.

The format is dlib's: a stream without an index, in which a network is a chain of
layers. The openings of all layers come first, from the loss to the input; then follows
the content of each layer, from the input to the loss. Tags and skips, by which dlib
writes shortcuts, have an opening and no content: the file does not say what the
shortcuts connect.

Sources: the ``serialize`` functions in dlib's ``serialize.h``, ``float_details.h``,
``cuda/tensor.h``, ``dnn/core.h``, ``dnn/layers.h``, ``dnn/input.h`` and ``dnn/loss.h``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.errors import ModelError

# dlib writes these exponents for values that have no mantissa.
_SPECIAL_EXPONENTS = {32000: math.inf, 32001: -math.inf, 32002: math.nan}
# A double's largest exponent is 1023 and its mantissa is written as an integer.
_LARGEST_EXPONENT = 1100
# Largest version number in an opening; a larger number is the length of the input
# layer's name, which follows the last opening.
_LARGEST_VERSION = 3
_INPUT_LAYER_VERSION = 3


@dataclass(frozen=True)
class DlibLayer:
    """One layer of a network, without the shortcuts that lead to it."""

    kind: str  # con, affine, relu, max_pool, avg_pool, add_prev or fc
    options: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class DlibNetwork:
    """The content of a dlib file."""

    mean: tuple[float, float, float]
    size: tuple[int, int]  # height and width of the input in pixels
    layers: tuple[DlibLayer, ...]


def read_dlib_network(path: str | Path) -> DlibNetwork:
    """Read a network with a metric loss and an RGB input of fixed size."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(
            f"the dlib network {path} cannot be read: {error.strerror}."
        ) from error
    stream = DlibStream(content, str(path))
    network = _network(stream)
    if stream.remaining:
        raise stream.error("the network is complete, but the file continues")
    return network


class DlibStream:
    """Decodes dlib's basic types in sequence."""

    def __init__(self, content: bytes, name: str = "stream") -> None:
        self._content = content
        self._name = name
        self._position = 0

    @property
    def remaining(self) -> int:
        """Number of bytes that have not been decoded."""
        return len(self._content) - self._position

    def error(self, problem: str) -> ModelError:
        """Build the exception for a problem at the current position."""
        return ModelError(
            f"{self._name} is not a dlib network that can be read: {problem} (byte "
            f"{self._position} of {len(self._content)}); get the file again."
        )

    def raw(self, size: int) -> bytes:
        """Take ``size`` bytes."""
        if size > self.remaining:
            raise self.error("it ends early")
        start, self._position = self._position, self._position + size
        return self._content[start : self._position]

    def integer(self) -> int:
        """Decode an integer: a byte with sign and length, then the magnitude.

        The lowest four bits of the first byte are the number of bytes that follow, in
        little-endian order; the highest bit is set for negative numbers.
        """
        control = self.raw(1)[0]
        length = control & 0x0F
        if control & 0x70 or not 1 <= length <= 8:
            raise self.error(f"0x{control:02x} does not begin an integer")
        magnitude = int.from_bytes(self.raw(length), "little")
        return -magnitude if control & 0x80 else magnitude

    def count(self) -> int:
        """Decode an integer of zero or more."""
        value = self.integer()
        if value < 0:
            raise self.error(f"{value} is not a size")
        return value

    def floating(self) -> float:
        """Decode a number, written as the integers ``m`` and ``e`` of ``m * 2**e``."""
        mantissa, exponent = self.integer(), self.integer()
        if exponent in _SPECIAL_EXPONENTS:
            return _SPECIAL_EXPONENTS[exponent]
        if abs(exponent) > _LARGEST_EXPONENT:
            raise self.error(f"2**{exponent} is out of range")
        try:
            return math.ldexp(mantissa, exponent)
        except OverflowError as error:
            raise self.error(f"{mantissa} * 2**{exponent} is too large") from error

    def text(self) -> str:
        """Decode a string: its length, then its bytes."""
        return self.raw(self.count()).decode("latin-1")

    def flag(self) -> bool:
        """Decode a truth value, written as the character 0 or 1."""
        value = self.raw(1)
        if value not in (b"0", b"1"):
            raise self.error(f"{value!r} is not a truth value")
        return value == b"1"

    def tensor(self) -> NDArray[np.float32]:
        """Decode a tensor: version 2, four sizes, then 32-bit little-endian floats.

        The values are returned as one row; the layer has their shapes.
        """
        version = self.integer()
        if version != 2:
            raise self.error(f"tensors of version {version} are not known")
        size = math.prod(self.count() for _ in range(4))
        return np.frombuffer(self.raw(4 * size), dtype="<f4").astype(np.float32)

    def view_shape(self) -> tuple[int, int, int, int]:
        """Decode the shape of a part of a tensor: version 1, then four sizes."""
        version = self.integer()
        if version != 1:
            raise self.error(f"tensor views of version {version} are not known")
        a, b, c, d = (self.count() for _ in range(4))
        return (a, b, c, d)


# --------------------------------------------------------------------------------------
# Networks
# --------------------------------------------------------------------------------------


def _network(stream: DlibStream) -> DlibNetwork:
    """Decode loss, openings, input layer, and every layer's content."""
    _loss(stream)
    versions, name = _openings(stream)
    if name != "input_rgb_image_sized":
        raise stream.error(f"the input layer {name!r} is not known")
    red, green, blue = (stream.floating() for _ in range(3))
    size = (stream.count(), stream.count())
    # Only layers have content, tags and skips (version 1) do not.
    layer_openings = sum(version != 1 for version in versions)
    if not layer_openings or versions[-1] != _INPUT_LAYER_VERSION:
        raise stream.error("the layer above the input has a version that is not known")
    layers = [_layer(stream)]
    stream.integer()  # images per sample of the first layer's input
    while len(layers) < layer_openings:
        layers.append(_layer(stream))
    return DlibNetwork((red, green, blue), size, tuple(layers))


def _loss(stream: DlibStream) -> None:
    """Decode the loss, which is not needed."""
    version = stream.integer()
    if version != 1:
        raise stream.error(f"a network of version {version} is not known")
    name = stream.text()
    if name != "loss_metric_2":
        raise stream.error(f"the loss {name[:40]!r} is not known")
    stream.floating()  # margin
    stream.floating()  # distance threshold


def _openings(stream: DlibStream) -> tuple[list[int], str]:
    """Decode the versions of all layers, and the name of the input layer."""
    versions: list[int] = []
    while True:
        value = stream.count()
        if value > _LARGEST_VERSION:
            return versions, stream.raw(value).decode("latin-1")
        versions.append(value)


def _layer(stream: DlibStream) -> DlibLayer:
    """Decode one layer and the training state that follows it."""
    name = stream.text()
    reader = _LAYER_READERS.get(name)
    if reader is None:
        raise stream.error(f"the layer {name[:40]!r} is not known")
    layer = reader(stream)
    for _ in range(3):
        stream.flag()
    for _ in range(3):
        stream.tensor()  # gradients and cached outputs, empty in published files
    return layer


def _convolution(stream: DlibStream, version: int) -> DlibLayer:
    """Decode a convolution; version 5 adds whether it has biases."""
    parameters = stream.tensor()
    names = ("filters", "nr", "nc", "stride_y", "stride_x", "padding_y", "padding_x")
    options = {name: stream.count() for name in names}
    shapes = {"filters": stream.view_shape(), "biases": stream.view_shape()}
    _multipliers(stream)
    if version >= 5:
        stream.flag()
    return DlibLayer("con", options, _split(stream, parameters, shapes))


def _affine(stream: DlibStream) -> DlibLayer:
    """Decode a scale and a shift per channel."""
    parameters = stream.tensor()
    shapes = {"gamma": stream.view_shape(), "beta": stream.view_shape()}
    mode = stream.integer()
    if mode != 0:
        raise stream.error("only affine layers that follow convolutions are known")
    return DlibLayer("affine", {}, _split(stream, parameters, shapes))


def _pooling(stream: DlibStream, kind: str) -> DlibLayer:
    """Decode a pooling layer; a size of 0 is the whole map."""
    names = ("nr", "nc", "stride_y", "stride_x", "padding_y", "padding_x")
    return DlibLayer(kind, {name: stream.count() for name in names})


def _linear(stream: DlibStream) -> DlibLayer:
    """Decode a fully connected layer."""
    options = {"outputs": stream.count(), "inputs": stream.count()}
    parameters = stream.tensor()
    shapes = {"weights": stream.view_shape(), "biases": stream.view_shape()}
    options["bias_mode"] = stream.integer()
    _multipliers(stream)
    return DlibLayer("fc", options, _split(stream, parameters, shapes))


def _multipliers(stream: DlibStream) -> None:
    """Decode the factors of learning rate and weight decay; only training uses them."""
    for _ in range(4):
        stream.floating()


def _split(
    stream: DlibStream,
    parameters: NDArray[np.float32],
    shapes: dict[str, tuple[int, int, int, int]],
) -> dict[str, NDArray[np.float32]]:
    """Split a layer's array of parameters into the parts that are not empty."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if sum(sizes.values()) != parameters.size:
        raise stream.error(
            f"a layer has {parameters.size} parameters where "
            f"{sum(sizes.values())} are expected"
        )
    parts: dict[str, NDArray[np.float32]] = {}
    start = 0
    for name, shape in shapes.items():
        part = parameters[start : start + sizes[name]]
        start += sizes[name]
        if part.size:
            parts[name] = _reshaped(name, part, shape)
    return parts


def _reshaped(
    name: str, part: NDArray[np.float32], shape: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    """Return a part in its own shape; dlib makes all parts four-dimensional."""
    if name == "filters":
        return part.reshape(shape)
    return part.reshape(shape[0], -1) if name == "weights" else part


def _plain(kind: str) -> Callable[[DlibStream], DlibLayer]:
    """Return a reader of a layer without content."""
    return lambda _stream: DlibLayer(kind)


_LAYER_READERS: dict[str, Any] = {
    "con_4": lambda stream: _convolution(stream, 4),
    "con_5": lambda stream: _convolution(stream, 5),
    "affine_": _affine,
    "relu_": _plain("relu"),
    "add_prev_": _plain("add_prev"),
    "max_pool_2": lambda stream: _pooling(stream, "max_pool"),
    "avg_pool_2": lambda stream: _pooling(stream, "avg_pool"),
    "fc_2": _linear,
}
