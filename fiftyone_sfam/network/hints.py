"""What is wrong when a network fails on an input, and what to do about it.

torch tells most failures apart by the text of the error only. A text that is not known
here leaves the error as it is, with the way to see it in full.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fiftyone_sfam.data.text import counted, first_line, type_and_first_line


class Hint(NamedTuple):
    """The end of a message: ``f"... ({problem}); {way_out}."``."""

    problem: str
    way_out: str


def hint_of(error: BaseException, shape: Sequence[int]) -> Hint:
    """Explain why the forward pass of a network failed.

    Parameters
    ----------
    error : BaseException
        What the forward pass raised.
    shape : sequence of int
        Shape of its input.

    Returns
    -------
    Hint
        What is wrong, and the way out.
    """
    text = first_line(error)
    for explain in _EXPLANATIONS:
        hint = explain(error, text, tuple(shape))
        if hint is not None:
            return hint
    size = ", ".join(str(length) for length in shape)
    return Hint(
        type_and_first_line(error),
        f"run network(torch.rand({size})) to see where it fails",
    )


def _arguments(error: BaseException, text: str, _shape: tuple[int, ...]) -> Hint | None:
    """Explain a call with too few or too many arguments."""
    if not isinstance(error, TypeError) or "forward()" not in text:
        return None
    if "missing" in text and "required" in text:
        names = re.findall(r"'(\w+)'", text)
        listed = " and ".join(f"'{name}'" for name in names)
        inputs = ", ".join(f'"{name}": ...' for name in names)
        return Hint(
            f"it needs {listed} besides the images",
            f"give inputs={{{inputs}}}, with the field that holds the value of each "
            "image",
        )
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", text)
    if unexpected:
        return Hint(
            f"it takes no argument '{unexpected[1]}'",
            "remove it from inputs, or correct its name",
        )
    if "positional argument" in text and "given" in text:
        return Hint(
            text,
            "give a torch.nn.Module whose forward takes the images and returns their "
            "embeddings",
        )
    return None


def _no_forward(
    error: BaseException, text: str, _shape: tuple[int, ...]
) -> Hint | None:
    """Explain a module that cannot be called."""
    if not isinstance(error, NotImplementedError) or '"forward"' not in text:
        return None
    return Hint(
        "it has no forward()",
        "give a torch.nn.Module whose forward takes the images and returns their "
        "embeddings",
    )


def _device(_error: BaseException, text: str, _shape: tuple[int, ...]) -> Hint | None:
    """Explain a device that is missing, or that not all tensors are on."""
    if _matches(text, "NVIDIA driver", "not compiled with CUDA", "CUDA error"):
        return Hint(
            text,
            'run it on the CPU with device="cpu", and without .cuda() in its code, or '
            "repair the driver",
        )
    if _matches(text, "on the same device", "on the expected device"):
        return Hint(
            "it works with tensors on different devices",
            "move the whole network with network.to(device), and make tensors in "
            "forward on the device of its input",
        )
    return None


def _batch_of_one(
    error: BaseException, text: str, shape: tuple[int, ...]
) -> Hint | None:
    """Explain a network that loses the axis of a batch of one."""
    if not shape or shape[0] != 1:
        return None
    lost = isinstance(error, IndexError) and _matches(
        text, "Dimension out of range", "too many indices", "0-dim tensor"
    )
    if not lost and not _matches(
        text, r"\(got [01]D input\)", "Expected more than 1 val"
    ):
        return None
    return Hint(
        f"{text}; it seems to drop the axis of a batch of one image, as squeeze() does",
        "use flatten(1) or squeeze(-1) there, or give it two images or more",
    )


def _type(_error: BaseException, text: str, _shape: tuple[int, ...]) -> Hint | None:
    """Explain types that do not fit together."""
    if _matches(
        text,
        "same dtype",
        r"Input type .* should be the same",
        r"expected scalar type .* but found",
    ):
        return Hint(
            f"its parts have different types: {text}",
            "turn the whole network into one type with network.float(), and let its "
            "preprocessing return floating-point images",
        )
    if _matches(text, r"not implemented for '(Half|BFloat16|Byte|Long|Int)'"):
        return Hint(
            text,
            "turn the network into float32 with network.float(), and let its "
            "preprocessing return floating-point images",
        )
    return None


def _channels(_error: BaseException, text: str, _shape: tuple[int, ...]) -> Hint | None:
    """Explain an image with another number of channels than the network takes."""
    found = re.search(r"expected input.* to have (\d+) channels, but got (\d+)", text)
    if found is None:
        return None
    return Hint(
        f"a convolution takes {counted(int(found[1]), 'channel')}, but got {found[2]}",
        "check that its preprocessing gives images of "
        f"{counted(int(found[1]), 'channel')}"
        if found[2] in ("1", "3", "4")
        else "check how it is put together",
    )


def _size(_error: BaseException, text: str, _shape: tuple[int, ...]) -> Hint | None:
    """Explain an input of a size that the network does not take."""
    if not _matches(
        text,
        "cannot be multiplied",
        "size mismatch",
        "must match the size",
        "Sizes of tensors must match",
        "is invalid for input of size",
        "greater than actual input size",
        "Output size is too small",
        "normalized_shape",
        "running_mean should contain",
        r"doesn't match (the )?model",
        r"[Ii]nput (image )?(size|height|width)",
        r"got input of size",
    ):
        return None
    return Hint(
        text, "check that its preprocessing gives the size that the network expects"
    )


def _matches(text: str, *patterns: str) -> bool:
    """Return whether one of the patterns is in a text."""
    return any(re.search(pattern, text) for pattern in patterns)


_EXPLANATIONS: tuple[
    Callable[[BaseException, str, tuple[int, ...]], Hint | None], ...
] = (_arguments, _no_forward, _device, _batch_of_one, _type, _channels, _size)
