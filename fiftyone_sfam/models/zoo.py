"""FiftyOne's torch image models as embedding models."""

from __future__ import annotations

import torch
from fiftyone.utils.torch import TorchImageModel
from torch import nn

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.factories import describe, tapped
from fiftyone_sfam.models.zoo_index import SUPPORTED, why_not, zoo_models
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import Metric
from fiftyone_sfam.network.transforms import TransformPreprocessing


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

    options = {} if device is None else {"device": str(device)}
    try:
        model = foz.load_zoo_model(name, **options)
    # Downloads, requirements and networks fail in ways that FiftyOne does not name.
    except Exception as error:
        raise ModelError(
            f"FiftyOne could not load the zoo model {name!r} ({describe(error)})."
        ) from error
    return from_fiftyone_model(model, layer=layer, name=name)


def from_fiftyone_model(
    model: TorchImageModel,
    *,
    layer: str | None = None,
    metric: Metric = "cosine",
    name: str | None = None,
) -> EmbeddingModel:
    """Make an embedding model of a FiftyOne torch image model.

    The network is shared, not copied: it stays on its device, and the wrapper can be
    used as before. The preprocessing is the wrapper's own. If that keeps the sizes of
    images (the zoo's does), inputs of different sizes do not fit into one batch.
    """
    network = _network(model)
    label = name or type(network).__name__
    if layer is None and _is_transformer(network):
        raise ModelError(
            f"the FiftyOne model {label!r} holds a transformer, whose patches are not "
            f"convolutional features; {SUPPORTED}, or name a layer."
        )
    config = model.config
    embedding: str | None = None
    embedding_layer = config.embeddings_layer
    if config.as_feature_extractor and embedding_layer is not None:
        # FiftyOne has replaced the network by one that returns {layer: output}.
        embedding, embedding_layer = embedding_layer, None
    network, embedding_layer = tapped(network, embedding_layer)
    return EmbeddingModel(
        network,
        TransformPreprocessing(model.transforms),
        layer=layer,
        metric=metric,
        embedding=embedding,
        embedding_layer=embedding_layer,
        name=label,
    )


def _network(model: object) -> nn.Module:
    """Return the network of a wrapper that does nothing else than run it."""
    if not isinstance(model, TorchImageModel):
        raise ModelError(
            f"the FiftyOne model is {type(model).__name__}, not a TorchImageModel; "
            f"{SUPPORTED}."
        )
    kind = type(model).__name__
    own = [
        method
        for method in ("_forward_pass", "_predict_all", "embed_all", "get_embeddings")
        if getattr(type(model), method) is not getattr(TorchImageModel, method)
    ]
    if own or model.config.raw_inputs or model.has_collate_fn:
        raise ModelError(
            f"the FiftyOne model {kind} computes its embeddings in a way of its own; "
            f"{SUPPORTED}."
        )
    if not model.has_embeddings:
        raise ModelError(
            f"the FiftyOne model {kind} exposes no embeddings; load it with "
            "embeddings_layer, the name of the layer that returns them."
        )
    if model.using_half_precision:
        raise ModelError(
            f"the FiftyOne model {kind} runs in half precision, in which scores cannot "
            "be decomposed exactly; load it with use_half_precision=False."
        )
    network = model._model
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"the FiftyOne model {kind} holds {type(network).__name__}, not a "
            f"torch.nn.Module; {SUPPORTED}."
        )
    return network


def _is_transformer(network: nn.Module) -> bool:
    """Tell whether a network has attention over several heads."""
    return any(
        isinstance(module, nn.MultiheadAttention) or hasattr(module, "num_heads")
        for module in network.modules()
    )
