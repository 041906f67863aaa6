"""Others' methods of the benchmark, on networks whose answer is worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from faithfulness_attention import Recorded, grad_eclip, legrad, rollout
from faithfulness_embedder import FastModel
from faithfulness_gradients import arguments, fggb, xssab
from faithfulness_masking import (
    black,
    corr_rise,
    correlations,
    gaussians,
    min_plus,
    rise,
    rise_masks,
    square_masks,
)
from faithfulness_methods import methods
from faithfulness_relevance import _Relevance, bilrp
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam import EmbeddingModel, Preprocessing
from fiftyone_sfam.network.metric import similarity


class Corners(nn.Module):
    """The mean color of the upper left and of the lower right quarter, and a one."""

    def __init__(self) -> None:
        super().__init__()
        self.gray = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.gray.weight, 1 / 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.adaptive_avg_pool2d(self.gray(images), 2).flatten(1)
        return torch.cat([maps[:, [0, 3]], torch.ones(len(maps), 1)], 1)


def corners(size: int = 14) -> tuple[EmbeddingModel, Tensor]:
    """Return the network of the corners, and a gray image."""
    preprocessing = Preprocessing(size=(size, size), mean=(0.0,) * 3, std=(1.0,) * 3)
    model = EmbeddingModel(Corners().eval(), preprocessing, name="corners")
    return model, model.prepare(Image.new("RGB", (size, size), (255, 255, 255)))


# Alike in the upper left corner, and unlike in the lower right one.
PARTNER = torch.tensor([[1.0, -0.5, 0.1]])


def quarters(maps: Tensor) -> list[float]:
    """Sum a map (H, W) over its quarters, row by row."""
    return (
        (4 * F.adaptive_avg_pool2d(maps[None], 2) * maps.numel() / 16)
        .flatten()
        .tolist()
    )


def test_arguments_add_up_to_the_margin_over_the_threshold() -> None:
    embedding, partner = torch.tensor([3.0, 4.0]), torch.tensor([[5.0, 12.0]])
    found = arguments(embedding, partner, "cosine", 0.2)
    assert found.tolist() == [pytest.approx([15 / 65 - 0.1, 48 / 65 - 0.1])]
    # Z is the mean of the squared lengths, 25 and 169.
    found = arguments(embedding, partner, "euclidean", 0.2)
    assert found.sum().item() == pytest.approx(63 / 97 - 0.2)


def test_fggb_spreads_each_argument_over_its_own_pixels() -> None:
    model, image = corners()
    (maps,) = fggb(0.2)(model, image, PARTNER)
    expected = arguments(model.embed(image[None])[0], PARTNER, "cosine", 0.2)[0]
    left, right, _ = expected.tolist()
    assert left > 0 > right
    assert quarters(maps) == pytest.approx([left, 0, 0, right], abs=1e-6)


def test_xssab_sends_supporting_and_opposing_arguments_apart() -> None:
    model, image = corners()
    similar, dissimilar = xssab(0.2)(model, image, PARTNER)[:, 0]
    left, right, _ = arguments(model.embed(image[None])[0], PARTNER, "cosine", 0.2)[0]
    # Each value is a mean over its quarter's pixels and three colors.
    assert quarters(similar) == pytest.approx([float(left), 0, 0, 0], abs=1e-6)
    assert quarters(dissimilar) == pytest.approx([0, 0, 0, -float(right)], abs=1e-6)


def test_correlations_by_hand() -> None:
    masks = torch.tensor([[[1.0, 1.0]], [[0.0, 1.0]], [[1.0, 1.0]], [[0.0, 1.0]]])
    scores = torch.tensor([[0.9, 0.1, 0.7, 0.3], [1.0, 2.0, 1.0, 2.0]])
    found = correlations(masks, scores)
    # 0.4 of the scores' spread 0.1 + 0.16 is the mask's; always shown, no correlation.
    assert found[0].tolist() == [pytest.approx([0.6 / 0.4**0.5, 0])]
    assert found[1].tolist() == [pytest.approx([-1, 0])]


def test_masks_hide_ten_squares() -> None:
    masks = square_masks(300, (112, 112))
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    # Ten squares, each at one of 141 x 141 places, of which 30 x 30 hide a pixel.
    expected = (1 - (30 / 141) ** 2) ** 10
    assert masks.mean().item() == pytest.approx(expected, abs=0.02)
    assert float((masks.mean(0) - expected).abs().max()) < 0.12
    assert square_masks(5, (56, 28))[0].shape == (56, 28)


@pytest.mark.parametrize("maps", [corr_rise(500), min_plus])
def test_masking_finds_the_corner_that_is_alike(
    maps: Callable[..., Tensor],
) -> None:
    model, image = corners(28)
    upper, *sides, lower = quarters(maps(model, image, PARTNER)[0])
    assert upper == max(upper, *sides, lower)
    if maps is not min_plus:
        assert lower == min(upper, *sides, lower) < 0 < upper


def test_the_weighted_mean_of_rise() -> None:
    model, image = corners(28)
    found = rise(50)(model, image, PARTNER)[1, 0]
    masks = rise_masks(50, (28, 28))
    # The blur of an image of one color is the image: all scores are the same.
    score = similarity(model.embed(image[None]), PARTNER, "cosine")
    torch.testing.assert_close(found, score * masks.mean(0) / masks.mean())


def test_min_plus_takes_the_best_place_first() -> None:
    model, image = corners(28)
    (found,) = min_plus(model, image, PARTNER)
    places = gaussians((28, 28))
    dark = black(model, image)
    assert dark.abs().max() == 0
    hidden = image * (1 - places[:, None])
    removed = similarity(model.embed(hidden), PARTNER[0], "cosine")
    best = int(removed.argmin())
    # Its Gaussian has the largest value of the removed half.
    middle = int(places[best].argmax())
    assert found.flatten()[middle] >= 0.5


def test_methods_that_share_a_computation() -> None:
    model, image = corners(28)
    by_name = {one.name: one for one in methods(9, 0.2)}
    signed, similar = by_name["FGGB, signed"], by_name["FGGB, similarity"]
    assert signed.maps is similar.maps
    maps = signed.maps(model, image, PARTNER)
    assert torch.equal(similar.then(maps), maps.clamp(min=0))
    assert not torch.equal(signed.then(maps), similar.then(maps))
    other = methods(9, 0.5)
    changed = next(one for one in other if one.name == "FGGB, signed")
    assert not torch.allclose(changed.maps(model, image, PARTNER), maps)


class Tokens(nn.Module):
    """Two by two patches and a class token, and one block without projections.

    ``asked`` is the query of the class token; zeros attend to all tokens alike.
    """

    def __init__(self, asked: tuple[float, float]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 2, 2, stride=2, bias=False)
        nn.init.zeros_(self.patches.weight)
        with torch.no_grad():
            self.patches.weight[0, 0] = 0.25
            self.patches.weight[1, 1] = 0.25
        self.block = nn.Identity()
        self.asked = asked

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        token = torch.zeros(len(images), 1, 2)
        tokens = torch.cat([token, patches], 1)[:, None]
        queries = torch.cat(
            [torch.tensor(self.asked).expand(len(images), 1, 1, 2), tokens[:, :, 1:]], 2
        )
        mixed = F.scaled_dot_product_attention(queries, tokens, tokens)
        out: Tensor = self.block(mixed[:, 0])[:, 0]
        return out


def tokens(asked: tuple[float, float] = (0.0, 0.0)) -> tuple[EmbeddingModel, Tensor]:
    preprocessing = Preprocessing(size=(4, 4), mean=(0.0,) * 3, std=(1.0,) * 3)
    model = EmbeddingModel(
        Tokens(asked).eval(), preprocessing, name="tokens", layer="patches"
    )
    image = torch.zeros(3, 4, 4)
    # Red above, green below left.
    image[0, :2], image[1, 2:, :2] = 1.0, 2.0
    # The first run may be repeated, to find out about the network.
    model.embed(image[None])
    return model, image


def test_rollout_by_hand() -> None:
    model, image = tokens()
    (found,) = rollout(model, image, PARTNER)
    # A fifth of the attention each, and half of it with the identity.
    assert found.tolist() == [pytest.approx([0.1, 0.1])] * 2


def test_legrad_by_hand() -> None:
    model, image = tokens()
    maps = legrad(("block",), lambda _model, outputs: outputs[:, 0])
    with Recorded() as mode:
        model.embed(image[None])
    (block,) = mode.blocks
    embedding = model.embed(image[None])[0]
    torch.testing.assert_close(embedding, torch.tensor([2 / 5, 2 / 5]))
    # The slope of the weight of a token is its value times the slope of the cosine.
    partner = torch.tensor([[1.0, 0.0]])
    slope = torch.tensor([1.0, -1.0]) * 2**-0.5 / (0.4 * 2)
    expected = (block.value[0, 0, 1:] @ slope).relu() / 5
    (found,) = maps(model, image, partner)
    torch.testing.assert_close(found, expected.reshape(2, 2))
    assert found[0, 0] > 0 == found[1, 0]


def test_grad_eclip_by_hand() -> None:
    model, image = tokens(asked=(1.0, 0.0))
    (found,) = grad_eclip(model, image, torch.tensor([[1.0, 0.0]]))
    # The query looks for red, and red raises the similarity: green and black count 0.
    assert found[0].min() > 0
    assert found[1].tolist() == [0, 0]
    # Towards a green partner, the places of the largest weight speak against it.
    (other,) = grad_eclip(model, image, torch.tensor([[0.0, 1.0]]))
    assert other.abs().max() == 0


class Layers(nn.Module):
    """Convolutions with what follows them in networks of the benchmark."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(6)
        self.scale = nn.Parameter(torch.rand(8) + 0.5)
        self.second = nn.Conv2d(6, 8, 3, groups=2, bias=False)
        self.gate = nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(8, 4, bias=bias)
        if bias:
            nn.init.normal_(self.norm.bias)
            nn.init.uniform_(self.norm.running_mean)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu6(self.norm(self.first(images)))
        maps = self.second(maps) * self.scale[None, :, None, None]
        maps = F.relu(maps)
        maps = maps * torch.sigmoid(self.gate(maps.mean((2, 3), keepdim=True)))
        out: Tensor = self.last(maps.mean((2, 3)))
        return out


@pytest.mark.parametrize("bias", [False, True])
def test_relevance_adds_up_where_no_bias_takes_part(bias: bool) -> None:
    torch.manual_seed(0)
    network = Layers(bias).eval()
    preprocessing = Preprocessing(size=(9, 9), mean=(0.5,) * 3, std=(0.1,) * 3)
    model = EmbeddingModel(network, preprocessing, name="layers")
    image, partners = torch.randn(3, 9, 9), torch.randn(2, 4)
    maps = bilrp(model, image, partners)
    embedding = model.embed(image[None])
    with _Relevance():
        _, _, same = model.record(image[None])
    torch.testing.assert_close(same, embedding)
    scores = similarity(embedding, partners, "cosine")
    assert torch.allclose(maps.sum((1, 2)), scores, atol=1e-5) is not bias


def test_relevance_of_a_unit_by_hand() -> None:
    model = EmbeddingModel(
        nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten()),
        Preprocessing(size=(1, 1), mean=(0.0,) * 3, std=(1.0,) * 3),
        name="unit",
        layer="0",
    )
    weight, bias = torch.tensor([2.0, -1.0, 3.0]), 1.0
    convolution = model.network[0]  # type: ignore[index]
    with torch.no_grad():
        convolution.weight.copy_(weight.reshape(1, 3, 1, 1))
        convolution.bias.fill_(bias)
    image = torch.tensor([1.0, 2.0, -1.0]).reshape(3, 1, 1)
    # The unit is 2 - 2 - 3 + 1; what makes it negative counts more.
    shares = (2.0, -2.0 * 1.25, -3.0 * 1.25, 1.0)
    expected = -1.0 * sum(shares[:3]) / sum(shares)
    found = bilrp(model, image, torch.ones(1, 1))
    assert found.item() == pytest.approx(expected)


def test_a_folded_network_embeds_the_same() -> None:
    torch.manual_seed(0)
    network = Layers(bias=True).eval()
    preprocessing = Preprocessing(size=(9, 9), mean=(0.5,) * 3, std=(0.1,) * 3)
    model = FastModel(network, preprocessing, name="layers")
    images = torch.randn(5, 3, 9, 9)
    expected = model.embed(images)
    model.fold(images)
    torch.testing.assert_close(model.embed(images), expected)
    with torch.no_grad():
        network.last.bias += 1
    # It is a copy: what the network becomes later plays no part.
    torch.testing.assert_close(model.embed(images), expected)
    with pytest.raises(RuntimeError, match="folded, model 'layers' differs by"):
        model.fold(images * torch.nan)
