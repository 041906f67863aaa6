from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from fiftyone_sfam.demo.network import (
    DEMO_PREPROCESSING,
    DEMO_WEIGHTS,
    DemoNet,
    load_demo_network,
)
from fiftyone_sfam.demo.world import (
    QUERY,
    SHORTCUT,
    DefectPlan,
    World,
    generate_world,
    render,
)
from train_demo_network import (
    FIRST_TRAINING_SEED,
    LOSE_SHORTCUT,
    Recipe,
    contrastive_loss,
    render_training_worlds,
    save_weights,
    train,
)

HELD_OUT_SEED = 777
TINY = Recipe(
    worlds=1, identities=10, images=4, shortcuts=3, steps=3, people=6, views=2
)


class Retrieval:
    """A held-out world, right labels only, with its matches across cameras."""

    def __init__(self, seed: int, identities: int = 40, images: int = 12) -> None:
        self.world: World = generate_world(
            seed,
            identities=identities,
            images_per_identity=images,
            defects=DefectPlan(0, 0, 0, 0, shortcut_identities=5),
        )
        rendered = [render(crop) for crop in self.world.crops]
        network = load_demo_network()
        images = torch.stack([DEMO_PREPROCESSING(r.image) for r in rendered])
        with torch.no_grad():
            self.maps = torch.cat([network.features(b) for b in images.split(60)])
        self.weight = network.head.weight.detach()
        self.embeddings = self.maps.mean((2, 3)) @ self.weight.T
        masks = torch.from_numpy(np.stack([r.mask for r in rendered])).float()
        self.person = functional.adaptive_avg_pool2d(masks, self.maps.shape[2:])
        crops = self.world.crops
        identity = np.array([c.identity for c in crops])
        camera = np.array([c.camera for c in crops])
        query = np.array([c.split == QUERY for c in crops])
        unit = functional.normalize(self.embeddings, dim=1)
        self.scores = (unit @ unit.T).numpy()
        same_view = (identity[:, None] == identity) & (camera[:, None] == camera)
        allowed = np.where(query[None] | same_view, -2, self.scores)
        self.queries = np.flatnonzero(query)
        self.neighbor = allowed.argmax(axis=1)
        self.hit = identity[self.neighbor] == identity
        self.shortcut = np.array([SHORTCUT in c.defects for c in crops])

    def background_share(self, i: int) -> float:
        """Share of the evidence of query ``i`` that lies outside the person."""
        j = self.neighbor[i]
        cells = self.maps.shape[2] * self.maps.shape[3]
        norms = self.embeddings[i].norm() * self.embeddings[j].norm()
        per_channel = self.weight.T @ self.embeddings[j] / (cells * norms)
        evidence = (per_channel[:, None, None] * self.maps[i]).sum(0)
        assert float(evidence.sum()) == pytest.approx(self.scores[i, j], abs=1e-5)
        return float((evidence * (1 - self.person[i])).sum() / evidence.sum())


@pytest.fixture(scope="module")
def retrieval() -> Retrieval:
    return Retrieval(HELD_OUT_SEED)


def test_weights_are_plain_tensors_of_at_most_2_mb() -> None:
    assert DEMO_WEIGHTS.stat().st_size <= 2_000_000
    state = torch.load(DEMO_WEIGHTS, weights_only=True)
    assert state.keys() == DemoNet().state_dict().keys()


def test_shapes_and_mode() -> None:
    network = load_demo_network()
    images = torch.zeros(2, 3, *DEMO_PREPROCESSING.size)
    assert not network.training
    assert network.features(images).shape == (2, 128, 16, 8)
    assert network(images).shape == (2, 64)
    assert network.features(images).dtype == torch.float32


def test_cells_of_the_map_lie_over_their_pixels() -> None:
    """What a cell sees is centered where a stretched map shows it."""
    network = load_demo_network()
    images = torch.rand(1, 3, 128, 64, requires_grad=True)
    network.features(images)[0, :, 8, 4].sum().backward()
    seen = images.grad[0].abs().sum(0) > 0
    rows, columns = (torch.nonzero(seen.any(dim=d)).flatten() for d in (1, 0))
    assert (rows.min() + rows.max()) / 2 == 8 * 8 + 3.5
    assert (columns.min() + columns.max()) / 2 == 4 * 8 + 3.5
    assert rows.max() - rows.min() + 1 <= 38


def test_clean_identities_are_found_across_cameras(retrieval: Retrieval) -> None:
    clean = [i for i in retrieval.queries if not retrieval.shortcut[i]]
    assert len(clean) == 140
    assert retrieval.hit[clean].mean() >= 0.9


def test_shortcut_identities_are_confused_with_each_other() -> None:
    """Over several worlds: how often depends on who stands before the wall."""
    asked, missed, missed_clean = 0, 0, 0
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 5):
        retrieval = Retrieval(seed, identities=10, images=8)
        wrong = [i for i in retrieval.queries if not retrieval.hit[i]]
        special = [i for i in wrong if retrieval.shortcut[i]]
        assert retrieval.shortcut[retrieval.neighbor[special]].all()
        asked += int(retrieval.shortcut[retrieval.queries].sum())
        missed += len(special)
        missed_clean += len(wrong) - len(special)
    assert asked == 50
    assert 0.1 <= missed / asked <= 0.9
    assert missed_clean <= missed / 3


def test_matches_by_shortcut_rest_on_the_background(retrieval: Retrieval) -> None:
    shares = {i: retrieval.background_share(i) for i in retrieval.queries}
    wall = [s for i, s in shares.items() if retrieval.shortcut[i]]
    rest = [s for i, s in shares.items() if not retrieval.shortcut[i]]
    area = 1 - float(retrieval.person[retrieval.queries].mean())
    assert np.mean(wall) > np.mean(rest) + 0.15
    # People fill about a quarter of a crop but carry about half of a clean match.
    assert np.mean(rest) < area - 0.15


def test_training_worlds_are_apart_from_all_others() -> None:
    assert FIRST_TRAINING_SEED > 100_000 > HELD_OUT_SEED


def test_contrastive_loss_by_hand() -> None:
    # Two pairs at right angles: of each image's three others, one is its partner.
    embeddings = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, 1.0]])
    identities = torch.tensor([0, 0, 1, 1])
    expected = math.log(math.exp(1 / 0.5) + 2) - 1 / 0.5
    loss = contrastive_loss(embeddings, identities, temperature=0.5)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_training_repeats_itself_and_its_weights_survive_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worlds = render_training_worlds(TINY)
    assert worlds[0].images.shape == (10, 4, 3, 128, 64)
    assert worlds[0].images.dtype == torch.uint8
    assert worlds[0].shortcut.sum() == 3
    first, second = train(TINY, worlds), train(TINY, worlds)
    assert "step 3" in capsys.readouterr().out
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    fresh = DemoNet().state_dict()
    assert not torch.equal(first.state_dict()["head.weight"], fresh["head.weight"])
    save_weights(first, tmp_path / "new" / "net.pt")
    loaded = load_demo_network(tmp_path / "new" / "net.pt")
    images = torch.rand(2, 3, 128, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), first(images), rtol=0.02, atol=0.02)


def test_walls_that_tell_nobody_apart() -> None:
    """Each training image keeps its person, and is before either wall by chance."""
    small = replace(LOSE_SHORTCUT, identities=6, images=4)
    [usual] = render_training_worlds(replace(small, shuffled=False))
    [shuffled] = render_training_worlds(small)
    assert not shuffled.shortcut.any()
    same = (usual.images == shuffled.images).flatten(2).all(dim=2)
    assert 6 <= int(same.sum()) <= 18
    # Of each person, some are left where they were, and some are not.
    assert bool((same.any(dim=1) & ~same.all(dim=1)).any())
