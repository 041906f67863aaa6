"""Models of which only the embeddings are known: TorchScript, onnxruntime, others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fiftyone_sfam.data.text import first_line
from fiftyone_sfam.errors import ModelError, NetworkError
from fiftyone_sfam.network.metric import METRICS, Metric
from fiftyone_sfam.network.outputs import EmbeddingKey, embeddings_of
from fiftyone_sfam.network.preparing import (
    PreparesImages,
    Preprocess,
    checked_preprocess,
)
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.network.state import device_of, evaluating


class OpaqueModel(PreparesImages):
    """A model that is only asked for embeddings, because its layers are hidden.

    It has no layer, so none of the maps that add up to a score can be computed:
    :func:`fiftyone_sfam.explain_by_masks` makes perturbation maps, which are not
    additive. Give an :class:`fiftyone_sfam.EmbeddingModel` wherever there is a
    differentiable network.

    Parameters
    ----------
    embed_function : callable, TorchScript module, onnxruntime session, FiftyOne model
        Maps a float32 tensor (B, 3, H, W) to embeddings (B, D), as a tensor, an array,
        or one of the outputs that :class:`fiftyone_sfam.EmbeddingModel` takes. Modules
        are run in evaluation mode on their device. A FiftyOne model is given arrays of
        8-bit pixels, so the preprocessing must keep the values 0 to 255:
        ``Preprocessing(size, mean=(0, 0, 0), std=(1, 1, 1), scale=1)``.
    preprocess : callable
        Maps a Pillow image to a (3, H, W) tensor, as
        :class:`fiftyone_sfam.Preprocessing` does.
    name : str, optional
        Name for messages; by default that of the function or of its class.
    metric : {"cosine", "euclidean"}
        How the embeddings are meant to be compared.
    embedding : str, int or sequence of them, optional
        Which output is the embedding, as for an EmbeddingModel.

    Raises
    ------
    ModelError
        If there is no way to get embeddings from ``embed_function``.

    Examples
    --------
    >>> from fiftyone_sfam import OpaqueModel, Preprocessing
    >>> model = OpaqueModel(
    ...     lambda images: images.mean((2, 3)), Preprocessing((16, 8)), name="colors"
    ... )
    >>> model
    OpaqueModel('colors', metric='cosine', additive=False)
    """

    additive = False

    def __init__(
        self,
        embed_function: Any,
        preprocess: Preprocess | Preprocessing,
        *,
        name: str | None = None,
        metric: Metric = "cosine",
        embedding: EmbeddingKey | None = None,
    ) -> None:
        if metric not in METRICS:
            raise ModelError(
                f"unknown metric {metric!r}; use one of {', '.join(METRICS)}."
            )
        self._function = embed_function
        self._compute = _computation(embed_function)
        self._batch = _fixed_batch(embed_function)
        self._embedding = embedding
        self.preprocess = checked_preprocess(preprocess)
        self.metric: Metric = metric
        kind = getattr(embed_function, "__name__", type(embed_function).__name__)
        self.name = name or str(getattr(embed_function, "original_name", kind))

    def __repr__(self) -> str:
        return f"OpaqueModel({self.name!r}, metric={self.metric!r}, additive=False)"

    def embed(self, images: Tensor) -> Tensor:
        """Compute embeddings.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W).

        Returns
        -------
        Tensor
            Shape (B, D), float32, on the CPU.

        Raises
        ------
        ModelError
            If the function fails or returns no embeddings.
        """
        size = self._batch or max(1, len(images))
        parts = []
        for part in images.float().split(size):
            missing = (self._batch or len(part)) - len(part)
            padded = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)])
            parts.append(self._embed(padded)[: len(part)])
        return torch.cat(parts)

    def _embed(self, images: Tensor) -> Tensor:
        """Compute the embeddings of a batch of the size that the function takes."""
        try:
            with _ready(self._function), torch.no_grad():
                output = self._compute(images.clone())
        except (ModelError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            raise NetworkError(
                f"model '{self.name}' failed on an input of shape "
                f"{tuple(images.shape)} ({first_line(error)}); call its function on a "
                "tensor of this shape to see where."
            ) from error
        output = _as_tensors(output)
        found, _ = embeddings_of(output, len(images), self._embedding, self.name)
        return found.detach().float().cpu()


def _computation(function: Any) -> Callable[[Tensor], Any]:
    """Return a function from images to outputs."""
    if isinstance(function, nn.Module):
        return lambda images: function(images.to(device_of(function)))
    if hasattr(function, "get_inputs") and hasattr(function, "run"):
        return lambda images: function.run(
            None, {function.get_inputs()[0].name: images.cpu().numpy()}
        )
    if hasattr(function, "embed_all") and hasattr(function, "has_embeddings"):
        return lambda images: function.embed_all(_pixels(images))
    if callable(function):
        return function
    raise ModelError(
        f"{type(function).__name__} gives no embeddings; give a function from a tensor "
        "(B, 3, H, W) to embeddings, a TorchScript module, an onnxruntime session or a "
        "FiftyOne model."
    )


def _fixed_batch(function: Any) -> int | None:
    """Return the number of images that an onnxruntime session takes, if it is fixed."""
    if not hasattr(function, "get_inputs"):
        return None
    count = function.get_inputs()[0].shape[0]
    return count if isinstance(count, int) and count > 0 else None


def _pixels(images: Tensor) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return images with values 0 to 255 as arrays (H, W, 3)."""
    pixels = images.clamp(0, 255).round().byte().permute(0, 2, 3, 1)
    return list(pixels.cpu().numpy())


def _as_tensors(output: Any) -> Any:
    """Return an output with arrays turned into tensors."""
    if isinstance(output, np.ndarray):
        return torch.as_tensor(output)
    if type(output) in (tuple, list):
        return type(output)(_as_tensors(item) for item in output)
    return output


@contextmanager
def _ready(function: Any) -> Iterator[None]:
    """Put a module into evaluation mode, and restore it."""
    if isinstance(function, nn.Module):
        with evaluating(function):
            yield
    else:
        yield
