"""Which models of FiftyOne's zoo can be explained, by what their manifests say.

Nothing is loaded or downloaded. A name that a user types is only ever compared with the
names in the manifests: FiftyOne would take an address for a source of code.
"""

from __future__ import annotations

from typing import Any

from fiftyone_sfam.models.registry import ModelInfo

# Wrappers that run a plain network on a batch of images and take the embedding from one
# of its layers. What subclasses do cannot be known from a manifest.
PLAIN_WRAPPERS = frozenset(
    {
        "fiftyone.utils.torch.TorchImageModel",
        "fiftyone.zoo.models.torch.TorchvisionImageModel",
    }
)
SUPPORTED = (
    "supported are the zoo's torch image models that are convolutional networks and "
    "expose embeddings, such as 'resnet18-imagenet-torch'"
)


def list_zoo() -> tuple[ModelInfo, ...]:
    """List the zoo's convolutional torch image models that expose embeddings."""
    return tuple(
        ModelInfo(model.name, "zoo", "cosine", model.description or "")
        for model in sorted(zoo_models(), key=lambda model: model.name)
        if why_not(model) is None
    )


def zoo_models() -> list[Any]:
    """Return the zoo's entries, with their manifests.

    FiftyOne's public functions give names, and entries one by one, for each of which
    they parse all manifests again: some twenty seconds for the whole zoo.
    """
    from fiftyone.zoo.models import _list_zoo_models

    return list(_list_zoo_models())


def why_not(model: Any) -> str | None:
    """Tell why a zoo entry cannot be explained."""
    deployment = model.default_deployment_config_dict or {}
    config = deployment.get("config", {})
    if deployment.get("type") not in PLAIN_WRAPPERS:
        return "it is not a plain torch image model"
    if not (config.get("embeddings_layer") or config.get("as_feature_extractor")):
        return "it exposes no embeddings"
    if "transformer" in (model.tags or ()):
        return "it is a transformer, which has no convolutional feature map"
    return None
