"""Arguments of a network beside the images, one value per image."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import ModelError

if TYPE_CHECKING:
    from fiftyone_sfam.network.runner import NetworkRunner

P = ParamSpec("P")
Result = TypeVar("Result")
Taker = TypeVar("Taker", bound="TakesInputs")


class TakesInputs:
    """A model with further inputs, which its copies hold for the images of a batch."""

    name: str
    inputs: dict[str, str]  # field of samples by the name of the argument
    _given: dict[str, Tensor]
    _runner: NetworkRunner

    def with_inputs(self: Taker, values: Mapping[str, ArrayLike]) -> Taker:
        """Return a model of the same network with its further inputs.

        Parameters
        ----------
        values : mapping of str to array_like
            For each name in ``inputs`` the values of a batch, shape (B, ...), or of one
            image, shape (1, ...), which serve for any number of images.

        Returns
        -------
        EmbeddingModel
            Shares the network, and the layer that is found.

        Raises
        ------
        ModelError
            If a name is missing or not one of ``inputs``.
        """
        if values.keys() != self.inputs.keys():
            raise ModelError(
                f"model '{self.name}' takes the inputs {list(self.inputs)}, not "
                f"{list(values)}; give an array for each of them."
            )
        model = copy.copy(self)
        model._given = {name: _as_input(value) for name, value in values.items()}
        return model

    def _of_image(self: Taker, index: int) -> Taker:
        """Return the model with the inputs of one image of a batch."""
        if not self._has_rows:
            return self
        return self.with_inputs(
            {name: value[index : index + 1] for name, value in self._given.items()}
        )

    def _repeated(self: Taker, times: int) -> Taker:
        """Return the model for a batch with each image so many times in a row."""
        if not self._has_rows:
            return self
        return self.with_inputs(
            {name: v.repeat_interleave(times, 0) for name, v in self._given.items()}
        )

    @property
    def _has_rows(self) -> bool:
        """Whether the inputs are those of several images."""
        return any(len(value) > 1 for value in self._given.values())


def with_given_inputs(
    method: Callable[Concatenate[Taker, Tensor, P], Result],
) -> Callable[Concatenate[Taker, Tensor, P], Result]:
    """Give the network the model's further inputs while a method runs."""

    @wraps(method)
    def run(self: Taker, images: Tensor, *args: P.args, **kwargs: P.kwargs) -> Result:
        for name, value in self._given.items():
            if len(value) not in (1, len(images)):
                raise ModelError(
                    f"model '{self.name}' was given {len(value)} values of '{name}' "
                    f"for {counted(len(images), 'image')}; give one for each."
                )
        with self._runner.given(self._given):
            return method(self, images, *args, **kwargs)

    return run


def _as_input(values: ArrayLike) -> Tensor:
    """Return a further input of a network as int64 or float32."""
    tensor = values if isinstance(values, Tensor) else torch.as_tensor(values)
    is_whole = not tensor.is_floating_point()
    return tensor.to(torch.int64 if is_whole else torch.float32)
