"""Networks that scale their embeddings to one length are explained all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import attribute, attribute_point
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import similarity
from fiftyone_sfam.network.preprocess import Preprocessing

Scaling = Callable[[Tensor], Tensor]

SCALINGS: dict[str, Scaling] = {
    "normalize": lambda u: F.normalize(u, dim=1),
    "norm": lambda u: u / u.norm(dim=1, keepdim=True),
    "torch.norm": lambda u: torch.div(u, torch.norm(u, 2, 1, True)),
    "linalg": lambda u: u / torch.linalg.vector_norm(u, dim=1).unsqueeze(1),
    "sqrt": lambda u: u / u.pow(2).sum(1, keepdim=True).sqrt(),
    "clamped": lambda u: u / u.norm(dim=1, keepdim=True).clamp(min=1e-12),
    "rsqrt": lambda u: u * torch.rsqrt(u.square().sum(1, keepdim=True) + 1e-12),
    "reciprocal": lambda u: u.norm(dim=1, keepdim=True).reciprocal() * u,
    "expanded": lambda u: u * (1 / u.norm(dim=1, keepdim=True)).expand_as(u),
    "expanded divisor": lambda u: u / u.norm(dim=1, keepdim=True).expand_as(u),
    "repeated": lambda u: u * u.norm(dim=1, keepdim=True).pow(-1).repeat(1, u.shape[1]),
    "over columns": lambda u: (u.T / u.norm(dim=1)[None]).T,
    "over rows": lambda u: (u.T * (1 / u.norm(dim=1))).T,
    "in place": lambda u: u.clone().div_(u.norm(dim=1, keepdim=True)),
    "in place, inverse": lambda u: u.clone().mul_(1 / u.norm(dim=1, keepdim=True)),
    "scaled": lambda u: 64 * F.normalize(u, dim=1),
    "reshaped": lambda u: F.normalize(u, dim=1)[:, :, None, None],
}


class Embedder(nn.Module):
    """Convolution, global average, linear layer without bias, and a scaling."""

    def __init__(self, scaling: Scaling | None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.conv = nn.Conv2d(3, 6, 3, padding=1, stride=2)
        self.head = nn.Linear(6, 5, bias=False)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 2
        self.scaling = scaling

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.head(torch.relu(self.conv(images)).mean((2, 3)))
        return pooled if self.scaling is None else self.scaling(pooled)


def explained(scaling: Scaling | None, metric: str = "cosine"):
    model = EmbeddingModel(
        Embedder(scaling),
        Preprocessing(size=(8, 8)),
        layer="conv",
        metric=metric,
    )
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return model, model.linearize(images)


ROWS, PARTNERS = torch.tensor([0, 0, 1]), [1, 2, 0]


@pytest.mark.parametrize("name", SCALINGS)
def test_the_maps_are_those_without_the_scaling(name: str) -> None:
    # The cosine does not see the scaling, so nothing else may.
    _, plain = explained(None)
    _, scaled = explained(SCALINGS[name])
    expected = attribute(plain, ROWS, plain.embedding[PARTNERS])
    found = attribute(scaled, ROWS, scaled.embedding[PARTNERS])
    for part in ("score", "evidence", "cis", "sfam", "remainder"):
        assert torch.allclose(
            getattr(found, part), getattr(expected, part), atol=2e-6
        ), part


@pytest.mark.parametrize("name", SCALINGS)
def test_an_image_with_itself_does_not_vanish(name: str) -> None:
    _, head = explained(SCALINGS[name])
    found = attribute(head, torch.tensor([0]), head.embedding[[0]])
    # Relu after the layer is linear where it passes: the evidence of a bias-free
    # head is the whole similarity of 1.
    assert float(found.score) == pytest.approx(1, abs=1e-6)
    assert float(found.evidence.sum()) == pytest.approx(1, abs=1e-5)


def test_the_jacobian_product_holds_the_length_too() -> None:
    _, head = explained(SCALINGS["normalize"])
    # With its length held the head is linear here, so it carries the whole embedding.
    assert torch.allclose(head.jvp(head.feature_map), head.embedding, atol=1e-6)
    maps = attribute_point(head, 0, (1, 2), head, 1)
    evidence = attribute(head, torch.tensor([0]), head.embedding[[1]]).evidence
    assert float(maps.sum()) == pytest.approx(float(evidence[0, 1, 2]), abs=1e-6)


def test_euclidean_of_unit_embeddings() -> None:
    _, head = explained(SCALINGS["normalize"], "euclidean")
    found = attribute(head, ROWS, head.embedding[PARTNERS], "euclidean")
    expected = similarity(head.embedding[ROWS], head.embedding[PARTNERS], "euclidean")
    assert torch.allclose(found.evidence.sum((1, 2)), expected, atol=1e-6)


def test_a_length_that_cannot_be_told_apart_is_refused() -> None:
    # A softmax has a constant sum but not a constant length; angles on a circle have
    # length 1 without any division.
    def on_a_circle(u: Tensor) -> Tensor:
        return torch.stack([torch.cos(u[:, 0]), torch.sin(u[:, 0])], dim=1)

    with pytest.raises(ModelError, match="scales its embeddings to one length"):
        explained(on_a_circle)


def test_any_divisor_is_held() -> None:
    def shares(u: Tensor) -> Tensor:
        return u.square() / u.square().sum(1, keepdim=True)

    _, head = explained(shares)
    # Of the square of an embedding, linear in its input, the derivative is twice it.
    assert torch.allclose(head.jvp(head.feature_map), 2 * head.embedding, atol=1e-6)
