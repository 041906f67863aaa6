"""The models of FiftyOne's zoo.

Listing them loads and downloads nothing: their manifests say which ones can be
explained. A name that a user types is only compared with the names in the manifests,
because FiftyOne would take a URL for a source of code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fiftyone_sfam.data.text import type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.registry import ModelInfo

if TYPE_CHECKING:
    import torch

    from fiftyone_sfam.network.embedder import EmbeddingModel

SUPPORTED = (
    "supported are the zoo's torch models that embed images, such as "
    "'resnet18-imagenet-torch' or 'clip-vit-base32-torch'"
)

# Classes whose embedding is that of an image, and which take nothing but the image.
EMBEDDERS = frozenset(
    {
        "FiftyOneTransformer",
        "FiftyOneTransformerForImageClassification",
        "FiftyOneZeroShotTransformerForImageClassification",
        "PEVisionEncoder",
        "TorchCLIPModel",
        "TorchImageModel",
        "TorchOpenClipModel",
        "TorchvisionImageModel",
    }
)

_DETECTS = (
    "it detects objects, and the first of its tokens, which FiftyOne takes as its "
    "embedding, is not trained to describe the image"
)
_NO_EMBEDDINGS = "it exposes no embeddings"

# Why the models of other classes of FiftyOne cannot be explained.
REASONS = {
    "FiftyOneTransformerForObjectDetection": _DETECTS,
    "FiftyOneZeroShotTransformerForObjectDetection": (
        "it detects the objects that a text names, and its network has no embedding "
        "of an image alone"
    ),
    "FiftyOneTransformerForSemanticSegmentation": (
        "it labels pixels, and what FiftyOne takes as its embedding is one channel of "
        "its last feature map, which does not describe the image"
    ),
    "FiftyOneZeroShotTransformerForSemanticSegmentation": (
        "it assigns each patch to one group, and a score cannot be followed through "
        "that choice"
    ),
    "FiftyOneTransformerForUniversalSegmentation": (
        "it finds segments, and FiftyOne's zoo lists no embeddings of it"
    ),
    "FiftyOneTransformerForDepthEstimation": (
        "it estimates depth, and FiftyOne's zoo lists no embeddings of it"
    ),
    "FiftyOneTransformerForPoseEstimation": (
        "it finds poses in boxes that it is given, and FiftyOne's zoo lists no "
        "embeddings of it"
    ),
    "Qwen3VLModel": (
        "its embedding is computed by a language model that reads the image together "
        "with a text"
    ),
    "TwelveLabsModel": (
        "a service computes its embeddings, so there is no network to differentiate"
    ),
}


def list_zoo() -> tuple[ModelInfo, ...]:
    """List the zoo's models that can be explained and run no downloaded code.

    FiftyOne loads the DINOv2 models with the code of a GitHub repository. They are not
    listed, so the App does not offer them.
    """
    return tuple(
        ModelInfo(model.name, "zoo", "cosine", model.description or "")
        for model in sorted(zoo_models(), key=lambda model: model.name)
        if why_not(model) is None and not runs_downloaded_code(model)
    )


def zoo_models() -> list[Any]:
    """Return the zoo's entries, with their manifests.

    FiftyOne's public functions return names and single entries, and parse all manifests
    for each entry: about twenty seconds for the whole zoo.
    """
    from fiftyone.zoo.models import _list_zoo_models

    return list(_list_zoo_models())


def why_not(model: Any) -> str | None:
    """Return why a zoo entry cannot be explained, or None if it can."""
    deployment = model.default_deployment_config_dict or {}
    config, tags = deployment.get("config", {}), model.tags or ()
    package, _, kind = deployment.get("type", "").rpartition(".")
    if kind in REASONS:
        return REASONS[kind]
    if "tf" in tags or "tf1" in tags or "tf2" in tags or package.startswith("eta."):
        return "it runs in TensorFlow, and only torch networks can be explained"
    if not package.startswith("fiftyone."):
        return (
            f"its class {deployment.get('type')!r} is not one of FiftyOne's, so it is "
            "not known how its embeddings are computed"
        )
    if kind not in EMBEDDERS and "embeddings" in tags:
        return f"it is not known how its class {kind!r} computes embeddings"
    if kind not in EMBEDDERS:
        return _NO_EMBEDDINGS
    if kind in ("TorchImageModel", "TorchvisionImageModel") and not (
        config.get("embeddings_layer") or config.get("as_feature_extractor")
    ):
        return _NO_EMBEDDINGS
    return None


def runs_downloaded_code(model: Any) -> bool:
    """Return whether FiftyOne loads a zoo entry with code that torch.hub downloads."""
    config = (model.default_deployment_config_dict or {}).get("config", {})
    return "torch_hub" in str(config.get("entrypoint_fcn"))


def load_zoo(
    name: str, *, layer: str | None = None, device: str | torch.device | None = None
) -> EmbeddingModel:
    """Load a model of FiftyOne's zoo; FiftyOne downloads its weights if necessary."""
    entry = next((m for m in zoo_models() if name in (m.name, m.base_name)), None)
    if entry is None:
        raise ModelError(f"FiftyOne's model zoo has no model {name!r}.")
    reason = why_not(entry)
    if reason is not None:
        raise ModelError(
            f"the zoo model {name!r} cannot be explained: {reason}; {SUPPORTED}."
        )
    import fiftyone.zoo as foz

    from fiftyone_sfam.models.fiftyone_models import from_fiftyone_model

    options = {} if device is None else {"device": str(device)}
    try:
        model = foz.load_zoo_model(name, **options)
    # FiftyOne does not document the errors of its downloads and requirement checks.
    except Exception as error:
        raise ModelError(
            f"FiftyOne could not load the zoo model {name!r} "
            f"({type_and_first_line(error)})."
        ) from error
    return from_fiftyone_model(model, layer=layer, name=name)
