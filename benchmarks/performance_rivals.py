"""What explaining pairs one by one costs with other packages, at the same layer.

Every function returns a way to explain both sides of a pair as its package's users
would: a network and one image at a time, because none of them takes pairs. What they
need to know of the partner, its embedding, they are given. SBSM slides a window over
each image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import similarity


@dataclass(frozen=True)
class Pair:
    """Two prepared images, (3, H, W), and their embeddings, (D,)."""

    query: Tensor
    gallery: Tensor
    of_query: Tensor
    of_gallery: Tensor


Explain = Callable[[Pair], Any]

SBSM_STEPS = 8
"""Strides of SBSM's window along each side of the image."""


def rivals(model: EmbeddingModel) -> dict[str, Explain]:
    """Return the other packages' ways to explain a pair, by package."""
    return {
        "captum": captum_grad_cam(model),
        "grad_cam": pytorch_grad_cam(model),
        "sbsm": xaitk_sbsm(model),
    }


def captum_grad_cam(model: EmbeddingModel) -> Explain:
    """Explain with captum's ``LayerGradCam``, on the similarity."""
    from captum.attr import LayerGradCam

    layer = model.network.get_submodule(str(model.layer))

    def score(images: Tensor, partner: Tensor) -> Tensor:
        return similarity(model.network(images), partner, model.metric)

    grad_cam = LayerGradCam(score, layer)

    def side(image: Tensor, partner: Tensor) -> Tensor:
        return grad_cam.attribute(image[None], additional_forward_args=(partner,))

    return _both_sides(side)


def pytorch_grad_cam(model: EmbeddingModel) -> Explain:
    """Explain with pytorch-grad-cam's ``GradCAM``, on the similarity."""
    from pytorch_grad_cam import GradCAM

    layer = model.network.get_submodule(str(model.layer))
    # One object for all pairs, as its documentation advises.
    cam = GradCAM(model.network, [layer])

    def side(image: Tensor, partner: Tensor) -> Any:
        return cam(
            image[None],
            [lambda output: similarity(output, partner, model.metric)],
        )

    return _both_sides(side)


def xaitk_sbsm(model: EmbeddingModel) -> Explain:
    """Explain with xaitk-saliency's ``SBSMStack``, on the similarity.

    It takes images of bytes and asks a descriptor generator for their embeddings; what
    it hides is black. The bytes are those of the prepared images, stretched, so that
    what the network computes has its usual size.
    """
    from smqtk_descriptors.interfaces.image_descriptor_generator import (
        ImageDescriptorGenerator,
    )
    from xaitk_saliency.impls.gen_image_similarity_blackbox_sal.sbsm import SBSMStack

    class Embedder(ImageDescriptorGenerator):
        """Embeds images of bytes in batches of 32."""

        def generate_arrays_from_images(
            self, img_mat_iter: Iterable[np.ndarray]
        ) -> Iterator[np.ndarray]:
            batch: list[np.ndarray] = []
            for image in img_mat_iter:
                batch.append(np.asarray(image))
                if len(batch) == 32:
                    yield from self._embed(batch)
                    batch = []
            if batch:
                yield from self._embed(batch)

        def _embed(self, images: list[np.ndarray]) -> np.ndarray:
            stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
            return model.embed(stacked.float() / 128 - 1).numpy()

        def get_config(self) -> dict[str, Any]:
            return {}

    blackbox = Embedder()

    def explain(pair: Pair) -> Any:
        images = [_as_bytes(pair.query), _as_bytes(pair.gallery)]
        height, width = images[0].shape[:2]
        stride = (max(1, height // SBSM_STEPS), max(1, width // SBSM_STEPS))
        sbsm = SBSMStack((2 * stride[0], 2 * stride[1]), stride, "cosine", fill=0)
        return [
            sbsm(images[1], [images[0]], blackbox),
            sbsm(images[0], [images[1]], blackbox),
        ]

    return explain


def _both_sides(side: Callable[[Tensor, Tensor], Any]) -> Explain:
    """Explain a pair from both sides."""

    def explain(pair: Pair) -> Any:
        return side(pair.query, pair.of_gallery), side(pair.gallery, pair.of_query)

    return explain


def _as_bytes(image: Tensor) -> np.ndarray:
    """Stretch a prepared image to bytes, (H, W, 3)."""
    low, high = image.min(), image.max()
    scaled = (image - low) / (high - low).clamp(min=1e-6) * 255
    return scaled.round().byte().permute(1, 2, 0).numpy()
