"""Networks that return the embeddings which FiftyOne takes out of its models."""

from __future__ import annotations

import copy
from typing import Any

from fiftyone.utils.torch import TorchImageModel
from torch import Tensor, nn

# Module of the hooks by which transformers return hidden states.
_CAPTURE = "transformers.utils.output_capturing"

# The entries of a model's output that FiftyOne looks for, in its order.
OUTPUT_KEYS = ("pooler_output", "last_hidden_state", "hidden_states")


class TransformerEmbedding(nn.Module):
    """A transformers model with the entry of its output that FiftyOne embeds with.

    Parameters
    ----------
    network : torch.nn.Module
        A model of transformers that takes ``pixel_values``.
    key : str
        Entry of its output.
    position : int
        Which of ``hidden_states`` is taken.
    aggregation : {"token", "mean", "max", "no_agg"}
        What is made of an entry other than ``pooler_output``.
    token : int
        Place of the token that ``"token"`` takes, along the second axis.
    channels_last : bool
        Whether the channels are the last axis, or the second.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        key: str,
        position: int = -1,
        aggregation: str = "token",
        token: int = 0,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.key = key
        self.position = position
        self.aggregation = aggregation
        self.token = token
        self.channels_last = channels_last

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the hooks of transformers, which do not pickle.

        They are set again when the network is asked for its hidden states.
        """
        network = copy.deepcopy(self.network)
        for module in network.modules():
            hooks = module._forward_hooks
            for key in [
                k
                for k, hook in hooks.items()
                if getattr(hook, "__module__", "") == _CAPTURE
            ]:
                del hooks[key]
            vars(module).pop("_output_capturing_hooks_installed", None)
        modules = {**self._modules, "network": network}
        return {**self.__dict__, "_modules": modules}

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings, or a map whose values are the embedding."""
        output = self.network(
            pixel_values=images, output_hidden_states=self.key == "hidden_states"
        )
        values = output[self.key]
        if self.key == "pooler_output":
            return values
        if self.key == "hidden_states":
            values = values[self.position]
        if self.aggregation == "token":
            return values[:, self.token]
        if values.ndim == 2 or self.aggregation == "no_agg":
            return values
        axes = (
            range(1, values.ndim - 1) if self.channels_last else range(2, values.ndim)
        )
        if self.aggregation == "mean":
            return values.mean(tuple(axes))
        return values.amax(tuple(axes))


class ImageFeatures(nn.Module):
    """A transformers model of images and texts that embeds images only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings in the space that images and texts share."""
        network: Any = self.network
        features = network.get_image_features(pixel_values=images)
        return features if isinstance(features, Tensor) else features.pooler_output


class ForwardPass(nn.Module):
    """A network that a FiftyOne model runs in its own way."""

    def __init__(self, network: nn.Module, model: TorchImageModel) -> None:
        super().__init__()
        self.network = network
        self._model = copy.copy(model)

    def forward(self, images: Tensor) -> Any:
        """Return what the FiftyOne model makes of images."""
        # The network may have been replaced by a copy that taps one of its layers.
        self._model._model = self.network
        return self._model._forward_pass(images)
