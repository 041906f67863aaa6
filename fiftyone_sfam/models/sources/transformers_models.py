"""Vision models of transformers: ``hf:ORG/NAME``, or a folder."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam.data.text import counted, type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.sources import SourceOptions, needs_extra
from fiftyone_sfam.models.sources.built import Built, InputConfig

# Pillow's numbers of the resampling filters.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
CLASS_TOKEN, MEAN = "cls", "mean"
# Options that say where the files of a model are, and those of its image processor.
_OF_REPOSITORY = ("cache_dir", "revision", "subfolder", "token", "trust_remote_code")


class ImageEmbedding(nn.Module):
    """A model of transformers that returns the embeddings of images.

    Parameters
    ----------
    model : torch.nn.Module
        With ``get_image_features``, as CLIP has it, or with images as its first input.
    output : str, optional
        Name of the output that is the embedding, ``"cls"`` for the first token or
        ``"mean"`` for the average over positions. None takes ``image_embeds``,
        ``pooler_output`` or the first token.
    """

    def __init__(self, model: nn.Module, output: str | None = None) -> None:
        super().__init__()
        self.model = model
        self.output = output
        self._of_images = callable(getattr(model, "get_image_features", None))

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, D)."""
        model: Any = self.model
        if self._of_images:
            output = model.get_image_features(pixel_values=images)
        else:
            output = model(images)
        return output if isinstance(output, Tensor) else self._embedding(output)

    def _embedding(self, output: Any) -> Tensor:
        """Return the embeddings in an output."""
        name = self.output
        if name is None:
            names = [
                n for n in ("image_embeds", "pooler_output") if _has_tensor(output, n)
            ]
            name = names[0] if names else CLASS_TOKEN
        if name not in (CLASS_TOKEN, MEAN):
            if not _has_tensor(output, name):
                raise ModelError(
                    f"the output of {type(self.model).__name__} has no {name!r}; it "
                    f"has {', '.join(output)}, {CLASS_TOKEN!r} and {MEAN!r}."
                )
            embedding: Tensor = output[name]
            return embedding.flatten(1)
        hidden: Tensor = output["last_hidden_state"]
        if hidden.ndim == 4:
            return hidden.mean((2, 3))
        return hidden[:, 0] if name == CLASS_TOKEN else hidden.mean(1)


def _has_tensor(output: Any, name: str) -> bool:
    """Return whether an output has a tensor of a name."""
    return isinstance(output.get(name), Tensor)


def build(name: str, options: SourceOptions) -> Built:
    """Build a model of transformers, and read its image processor."""
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise needs_extra("transformers", "transformers", "transformers") from error
    folder = options.folder / name
    place = str(folder) if folder.is_dir() else name
    kwargs = dict(options.kwargs)
    # Below, the owner names the repository, and may pin its revision in the options.
    try:
        if options.pretrained is False:
            config = AutoConfig.from_pretrained(place, **kwargs)  # nosec B615
            trust = options.kwargs.get("trust_remote_code")
            model = AutoModel.from_config(config, trust_remote_code=trust)
            missing: set[str] = set()
        else:
            model, report = AutoModel.from_pretrained(  # nosec B615
                place, output_loading_info=True, **kwargs
            )
            missing = set(report["missing_keys"])
    # transformers does not document the errors of its names, files and downloads.
    except Exception as error:
        raise ModelError(
            f"transformers could not build '{name}' ({type_and_first_line(error)})."
        ) from error
    _check_missing(model, missing, options.allow_missing, name)
    _check_input(model, name)
    if options.embedding is not None and not isinstance(options.embedding, str):
        raise ModelError(
            f"embedding is {options.embedding!r}; a model of transformers has outputs "
            f"with names, {CLASS_TOKEN!r} and {MEAN!r}."
        )
    return Built(
        ImageEmbedding(model, options.embedding),
        _config(model, place, options),
        weights_into=model,
    )


def _check_missing(
    model: Any, missing: set[str], allowed: Sequence[str], name: str
) -> None:
    """Raise if weights kept their random values.

    Checkpoints of classifiers have no pooling layer: the class token is the embedding.
    """
    if missing and all(key.startswith("pooler.") for key in missing):
        model.pooler = None
        return
    left = sorted(
        key for key in missing if not any(fnmatchcase(key, p) for p in allowed)
    )
    if left:
        shown = ", ".join(left[:4]) + (", ..." if len(left) > 4 else "")
        raise ModelError(
            f"the checkpoint '{name}' lacks {counted(len(left), 'weight')} of "
            f"{type(model).__name__} ({shown}); name those that may keep their initial "
            "values in allow_missing."
        )


def _check_input(model: Any, name: str) -> None:
    """Raise if a model takes no images."""
    if hasattr(model, "get_image_features"):
        return
    first = next(iter(inspect.signature(model.forward).parameters), "")
    if first in ("input_ids", "input_values", "input_features", "inputs_embeds"):
        raise ModelError(
            f"'{name}' is a {type(model).__name__}, which takes {first} and no images."
        )


def _config(model: Any, place: str, options: SourceOptions) -> InputConfig:
    """Return the configuration of a model's image processor."""
    from transformers import AutoImageProcessor

    of_repository = {k: v for k, v in options.kwargs.items() if k in _OF_REPOSITORY}
    try:
        # As above, at the same revision.
        processor = AutoImageProcessor.from_pretrained(  # nosec B615
            place, **of_repository
        )
    # A model need not have one; then nothing says how its images are prepared.
    except (OSError, ValueError):
        return InputConfig(_size_of(getattr(model.config, "image_size", None)))
    from fiftyone_sfam.network.image_processors import ImageProcessorPreprocessing

    def transform(mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
        processor.image_mean, processor.image_std = list(mean), list(std)
        return ImageProcessorPreprocessing(processor)

    shape = ImageProcessorPreprocessing(processor)(Image.new("RGB", (64, 64))).shape
    return InputConfig(
        (shape[-2], shape[-1]),
        tuple(getattr(processor, "image_mean", None) or (0.0, 0.0, 0.0)),
        tuple(getattr(processor, "image_std", None) or (1.0, 1.0, 1.0)),
        _FILTERS.get(int(getattr(processor, "resample", None) or 2), "bilinear"),
        transform,
    )


def _size_of(size: Any) -> tuple[int, int] | None:
    """Return a height and a width out of a configuration."""
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return (int(size[0]), int(size[1]))
    return None
