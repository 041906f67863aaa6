"""Image towers of open_clip: ``open_clip:ARCH/TAG``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from fiftyone_sfam.data.text import type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.sources import SourceOptions, needs_extra
from fiftyone_sfam.models.sources.built import Built, InputConfig

# Prefixes of names that say where both architecture and weights are.
_PLACES = ("hf-hub:", "local-dir:")


def build(name: str, options: SourceOptions) -> Built:
    """Build the image tower of a model of open_clip."""
    try:
        import open_clip
    except ImportError as error:
        raise needs_extra("open_clip", "open_clip_torch", "open-clip") from error
    kwargs: dict[str, Any] = dict(options.kwargs)
    if options.size is not None:
        kwargs.setdefault("force_image_size", options.size)
    architecture, tag = name, ""
    if name.startswith(_PLACES):
        if options.pretrained is False:
            kwargs["load_weights"] = False
    else:
        architecture, _, tag = name.partition("/")
        if not tag and options.pretrained is not False:
            raise ModelError(
                f"'open_clip:{name}' names no weights; give open_clip:ARCH/TAG"
                f"{_tags(architecture)}, or pretrained=False for random ones."
            )
        if tag and options.pretrained is not False:
            kwargs["pretrained"] = tag
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            architecture, **kwargs
        )
    # open_clip does not document the errors of its names, options and downloads.
    except Exception as error:
        raise ModelError(
            f"open_clip could not build '{name}' ({type_and_first_line(error)}); "
            "open_clip.list_pretrained() lists architectures and tags."
        ) from error
    embedding = options.embedding
    # CoCa's tower also returns the tokens.
    if embedding is None and getattr(model.visual, "output_tokens", False):
        embedding = 0
    return Built(model.visual, _config(model.visual, preprocess), embedding)


def _tags(architecture: str) -> str:
    """Return the tags of an architecture as the end of a phrase."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    return f" with one of the tags {', '.join(tags)}" if tags else ""


def _config(visual: Any, preprocess: Any) -> InputConfig:
    """Return the configuration that an image tower carries."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    names = {field.name for field in fields(PreprocessCfg)}
    config = {k: v for k, v in visual.preprocess_cfg.items() if k in names}
    own = (tuple(config["mean"]), tuple(config["std"]))

    def transform(mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
        if (mean, std) == own:
            return preprocess
        given = PreprocessCfg(**{**config, "mean": mean, "std": std})
        return image_transform_v2(given, is_train=False)

    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return InputConfig((height, width), *own, config["interpolation"], transform)
