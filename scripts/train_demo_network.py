"""Trains the demo network: ``python scripts/train_demo_network.py --seed 7``.

Metric learning with a supervised contrastive loss (Khosla et al., arXiv:2004.11362) on
identities of worlds other than those that are shown or tested. Some training identities
are always before the striking wall, and most batches hold only one of them: there the
wall alone tells an identity apart, so the network learns to lean on it. That is the
shortcut that the demo dataset lets one find.

With ``--lose-shortcut``, the packaged network is trained further, on people who are
each before any wall at random, the striking one among them. No wall tells anybody apart
there, so the network loses the shortcut. A registry file that names the network is
written beside its weights.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fiftyone_sfam.demo.network import (
    DEMO_PREPROCESSING,
    DEMO_WEIGHTS,
    DemoNet,
    load_demo_network,
)
from fiftyone_sfam.demo.scenes import STRIKING_SCENE
from fiftyone_sfam.demo.world import (
    SHORTCUT,
    Crop,
    DefectPlan,
    World,
    generate_world,
    render,
)

FIRST_TRAINING_SEED = 1_000_000
"""Worlds of this and larger seeds are for training; use smaller ones for all else."""

# Shortcut identities of a batch that holds several.
_CROWD = 4


@dataclass(frozen=True)
class Recipe:
    """How the network is trained."""

    seed: int = 7
    worlds: int = 6
    identities: int = 60
    images: int = 12
    shortcuts: int = 10  # identities per world that are always before the striking wall
    shuffled: bool = False  # whether the wall is behind a random half of all images
    crowded: float = 0.03
    steps: int = 700  # batches
    people: int = 16  # identities per batch and images of each
    views: int = 4  # identities per batch and images of each
    learning_rate: float = 3e-3  # peak of a one-cycle schedule
    temperature: float = 0.1  # of the contrastive loss


LOSE_SHORTCUT = Recipe(
    worlds=1, identities=40, images=8, shortcuts=0, shuffled=True, steps=60
)
"""How the packaged network is trained further, to lose its shortcut."""

LOST = Path("shuffled.pt")
"""Where its weights are written."""


@dataclass(frozen=True)
class TrainingWorld:
    """Rendered images of one world."""

    images: Tensor  # (identities, images, 3, height, width) uint8
    shortcut: np.ndarray  # (identities,) bool: always before the striking wall


def render_training_worlds(recipe: Recipe) -> list[TrainingWorld]:
    """Render the training worlds into memory."""
    height, width = DEMO_PREPROCESSING.size
    worlds = []
    for n in range(recipe.worlds):
        world = generate_world(
            FIRST_TRAINING_SEED + 1000 * recipe.seed + n,
            identities=recipe.identities,
            images_per_identity=recipe.images,
            cameras=6,
            defects=DefectPlan(0, 0, 0, 0, recipe.shortcuts),
            size=(width, height),
        )
        crops = _shuffled(world) if recipe.shuffled else world.crops
        pixels = np.stack([np.asarray(render(crop).image) for crop in crops])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        shape = (recipe.identities, recipe.images, 3, height, width)
        shortcut = [SHORTCUT in c.defects for c in world.crops[:: recipe.images]]
        worlds.append(
            TrainingWorld(images.reshape(shape).contiguous(), np.array(shortcut))
        )
    return worlds


def train(
    recipe: Recipe, worlds: Sequence[TrainingWorld], network: DemoNet | None = None
) -> DemoNet:
    """Train a network, which is given or a fresh one."""
    torch.manual_seed(recipe.seed)
    network = DemoNet() if network is None else network.train()
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps
    )
    start = time.monotonic()
    for step, (pixels, identities) in enumerate(_batches(recipe, worlds), start=1):
        embeddings = network(_augment(pixels))
        loss = contrastive_loss(embeddings, identities, recipe.temperature)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == recipe.steps:
            seconds = time.monotonic() - start
            print(f"step {step}  loss {loss.item():.3f}  {seconds:.0f} s", flush=True)
    return network.eval()


def contrastive_loss(
    embeddings: Tensor, identities: Tensor, temperature: float
) -> Tensor:
    """Supervised contrastive loss on cosines (arXiv:2004.11362, equation 2)."""
    unit = functional.normalize(embeddings, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool)
    logits = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))
    log_share = logits - logits.logsumexp(dim=1, keepdim=True)
    same = (identities[:, None] == identities[None]) & ~itself
    positive = log_share.masked_fill(~same, 0).sum(dim=1) / same.sum(dim=1)
    return -positive.mean()


def save_weights(network: DemoNet, path: Path) -> None:
    """Write a network's state dict in half precision."""
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def write_registry(weights: Path) -> Path:
    """Write a registry file that names the network as its file of weights."""
    names = ("size", "mean", "std")
    entry = {
        "factory": "fiftyone_sfam.demo.network:DemoNet",
        "weights": weights.name,
        "preprocess": {name: getattr(DEMO_PREPROCESSING, name) for name in names},
    }
    file = weights.with_suffix(".json")
    file.write_text(json.dumps({"models": {weights.stem: entry}}, indent=2), "utf-8")
    return file


def _shuffled(world: World) -> list[Crop]:
    """Put each crop before the striking wall or leave it where it is, at random."""
    before = np.random.default_rng(world.seed).uniform(size=len(world.crops)) < 0.5
    return [
        replace(crop, shot=replace(crop.shot, scene=STRIKING_SCENE)) if moved else crop
        for crop, moved in zip(world.crops, before.tolist(), strict=True)
    ]


def _batches(
    recipe: Recipe, worlds: Sequence[TrainingWorld]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and identities; a batch is of one world, where all people differ."""
    rng = np.random.default_rng(recipe.seed)
    for step in range(recipe.steps):
        world = worlds[step % len(worlds)]
        special = np.flatnonzero(world.shortcut)
        plain = np.flatnonzero(~world.shortcut)
        crowd = _CROWD if rng.uniform() < recipe.crowded else 1
        crowd = min(crowd, len(special))
        chosen = np.concatenate(
            [
                rng.choice(special, crowd, replace=False),
                rng.choice(plain, recipe.people - crowd, replace=False),
            ]
        )
        parts = []
        for identity in chosen:
            views = rng.choice(world.images.shape[1], recipe.views, replace=False)
            parts.append(world.images[int(identity), torch.from_numpy(views)])
        labels = torch.arange(recipe.people).repeat_interleave(recipe.views)
        yield torch.cat(parts), labels


def _augment(pixels: Tensor) -> Tensor:
    """Move, light, roughen and erase at random; then normalize for the network."""
    count, _, height, width = pixels.shape
    images = pixels.float() / DEMO_PREPROCESSING.scale
    images = _move(images)
    images = images * (0.85 + 0.3 * torch.rand(count, 1, 1, 1))
    images = images * (0.94 + 0.12 * torch.rand(count, 3, 1, 1))
    images = images + 0.02 * torch.randn_like(images)
    for i in torch.nonzero(torch.rand(count) < 0.3).flatten().tolist():
        y = int(torch.randint(height - 32, ()))
        x = int(torch.randint(width - 20, ()))
        images[i, :, y : y + 32, x : x + 20] = 0.5
    mean = torch.tensor(DEMO_PREPROCESSING.mean).reshape(3, 1, 1)
    std = torch.tensor(DEMO_PREPROCESSING.std).reshape(3, 1, 1)
    return (images.clamp(0, 1) - mean) / std


def _move(images: Tensor) -> Tensor:
    """Mirror half of the images; scale and shift each by up to 6 % of its size."""
    count = len(images)
    scale = 1 + 0.06 * (2 * torch.rand(count, 2) - 1)
    scale[:, 0] *= torch.where(torch.rand(count) < 0.5, 1.0, -1.0)
    shift = 0.12 * (2 * torch.rand(count, 2) - 1)
    transform = torch.cat([torch.diag_embed(scale), shift[:, :, None]], dim=2)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, padding_mode="border", align_corners=False
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, help="number of batches")
    parser.add_argument("--output", type=Path, help="file of the weights")
    parser.add_argument(
        "--lose-shortcut",
        action="store_true",
        help="train the packaged network further, before shuffled walls",
    )
    options = parser.parse_args(arguments)
    start = time.monotonic()
    recipe, network, output = Recipe(), None, DEMO_WEIGHTS
    if options.lose_shortcut:
        recipe, network, output = LOSE_SHORTCUT, load_demo_network(), LOST
    recipe = replace(recipe, seed=options.seed, steps=options.steps or recipe.steps)
    output = options.output or output
    worlds = render_training_worlds(recipe)
    print(f"rendered {len(worlds)} worlds in {time.monotonic() - start:.0f} s")
    save_weights(train(recipe, worlds, network), output)
    print(f"wrote {output}")
    if options.lose_shortcut:
        print(f"wrote {write_registry(output)}")


if __name__ == "__main__":
    main()
