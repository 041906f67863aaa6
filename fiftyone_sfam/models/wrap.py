"""Models that a caller already has: FiftyOne's model objects and bare networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.data.text import type_and_first_line
from fiftyone_sfam.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.network.metric import Metric

ModelLike = Any
"""An EmbeddingModel, the name of a model, a FiftyOne model, or a torch.nn.Module."""

GIVE = (
    "give an EmbeddingModel(network, Preprocessing(size=(height, width))), with the "
    "preprocessing that the network was trained with"
)


def as_model(model: ModelLike) -> EmbeddingModel:
    """Return the embedding model of a name, a FiftyOne model or a bare network."""
    from torch import nn

    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.network.opaque import OpaqueModel

    if isinstance(model, EmbeddingModel):
        return model
    if isinstance(model, OpaqueModel):
        raise ModelError(
            f"model '{model.name}' is opaque, so it has no layer and no maps that add "
            "up to a score; call explain_by_masks(model, query, gallery) for maps that "
            "are not additive."
        )
    if isinstance(model, str):
        from fiftyone_sfam.models import load_model

        return load_model(model)
    if is_fiftyone_model(model):
        from fiftyone_sfam.models.fiftyone_models import from_fiftyone_model

        return from_fiftyone_model(model)
    if isinstance(model, nn.Module):
        return from_module(model)
    raise ModelError(
        f"{type(model).__name__} is not a model; give the name of one, an "
        "EmbeddingModel, a FiftyOne model or a torch.nn.Module."
    )


def is_fiftyone_model(model: object) -> bool:
    """Return whether an object is one of FiftyOne's models."""
    import fiftyone.core.models as fom

    return isinstance(model, fom.Model)


def from_module(
    network: nn.Module, *, layer: str | None = None, metric: Metric = "cosine"
) -> EmbeddingModel:
    """Make an embedding model of a network that says how its images are prepared.

    timm's networks do, and are embedded before their classifier; open_clip's do, and
    are embedded by their image encoder; for those of transformers FiftyOne reads the
    image processor from the folder or the repository that they were loaded from.

    Raises
    ------
    ModelError
        If the preprocessing cannot be known.
    """
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.network.layers import tapped
    from fiftyone_sfam.network.state import unwrapped

    network = unwrapped(network)
    library = _library_of(network)
    if library == "transformers":
        return _from_transformers(network, layer, metric)
    if library not in _LIBRARIES:
        raise ModelError(
            f"the preprocessing of {type(network).__name__} is not known, because a "
            f"torch.nn.Module does not say how its images are prepared; {GIVE}."
        )
    encoder, preprocess, embedding_layer = _LIBRARIES[library](network)
    encoder, embedding_layer = tapped(encoder, embedding_layer)
    return EmbeddingModel(
        encoder,
        preprocess,
        layer=layer,
        metric=metric,
        embedding_layer=embedding_layer,
        name=type(network).__name__,
    )


_Parts = tuple["nn.Module", Callable[..., Any], "str | None"]


def _timm(network: Any) -> _Parts:
    """Return a timm network, its preprocessing, and the input of its classifier."""
    from timm.data import create_transform, resolve_data_config

    transform = create_transform(**resolve_data_config({}, model=network))
    config = getattr(network, "pretrained_cfg", None) or network.default_cfg
    classifier = config.get("classifier")
    if not getattr(network, "num_classes", 0) or not classifier:
        return network, transform, None
    if not isinstance(classifier, str):
        raise ModelError(
            f"{type(network).__name__} has {len(classifier)} classifiers, so its "
            "embedding is not known; remove them with reset_classifier(0)."
        )
    return network, transform, f"<{classifier}"


def _open_clip(network: nn.Module) -> _Parts:
    """Return the image encoder of an open_clip network, and its preprocessing."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    visual: Any = getattr(network, "visual", network)
    config = getattr(visual, "preprocess_cfg", None)
    if config is None:
        raise ModelError(
            f"{type(network).__name__} of open_clip has no visual.preprocess_cfg to "
            f"prepare images with; {GIVE}, or load it with "
            "open_clip.create_model_and_transforms."
        )
    return visual, image_transform_v2(PreprocessCfg(**config), is_train=False), None


def _torchvision(network: nn.Module) -> _Parts:
    """Raise: torchvision's networks do not say how images are prepared."""
    raise ModelError(
        f"{type(network).__name__} of torchvision does not say how its images are "
        "prepared; give EmbeddingModel(network, weights.transforms(), "
        "embedding_layer=...), with the weights that it was made with and the layer "
        "before its classifier."
    )


def _from_transformers(
    network: Any, layer: str | None, metric: Metric
) -> EmbeddingModel:
    """Make an embedding model of a transformers network, as FiftyOne would."""
    from fiftyone_sfam.models.fiftyone_models import from_fiftyone_model

    try:
        from fiftyone.utils.transformers import convert_transformers_model

        model = convert_transformers_model(network)
    # FiftyOne does not document the errors of its conversion.
    except Exception as error:
        raise ModelError(
            f"the image processor of {type(network).__name__} cannot be read from "
            f"{network.config._name_or_path!r} ({type_and_first_line(error)}); {GIVE}."
        ) from error
    return from_fiftyone_model(
        model, layer=layer, metric=metric, name=type(network).__name__
    )


_LIBRARIES: dict[str, Callable[[nn.Module], _Parts]] = {
    "timm": _timm,
    "open_clip": _open_clip,
    "torchvision": _torchvision,
}


def _library_of(network: nn.Module) -> str:
    """Return the known library that a network's class or one of its bases is from."""
    roots = [base.__module__.split(".")[0] for base in type(network).__mro__]
    known = (root for root in roots if root in {*_LIBRARIES, "transformers"})
    return next(known, "")
