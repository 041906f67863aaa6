"""Which maps find what matters: ours, others' and baselines on real embedders.

For each query its best true match and its nearest impostor are explained by every
method, and the query is masked in the order of each map. Settings of our
maps were chosen on one half of the identities; the queries here are of the other half.

Every query is one line in ``benchmarks/out/faithfulness/NETWORK.jsonl`` as soon as it
is done, so a run that was stopped goes on where it was. The table that is printed and
``benchmarks/out/faithfulness.json`` are made of all lines that there are.

Usage: ``python benchmarks/faithfulness.py [--assets DIR] [--only NAMES] [--pairs N]
[--turn N] [--steps T] [--masks M] [--fill all|blur|mean|inpaint|patches]
[--half dev|report] [--trials] [--pasted] [--table] [--demo]``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from check_real import CASES, ROOT, load_reference
from check_real_rank1 import MARKET_NAME

OUT = ROOT / "benchmarks" / "out"
NETWORKS = (
    "dlib",
    "osnet",
    "mobilefacenet",
    "hse_faceres",
    "edgeface",
    "class_token_vit",
)
PAIRS = 300
STEPS = 10
MASKS = 200
# Networks with batch normalization to fold.
FOLDED = ("osnet", "mobilefacenet")
FILLS = ("blur", "mean", "inpaint", "patches")
# Identities by their place in alphabetical order, even or odd.
HALVES = {"dev": 0, "report": 1}


@dataclass(frozen=True)
class Data:
    """The prepared images of half of the identities, and the model."""

    title: str
    model: Any
    images: Any
    embeddings: Any
    identities: np.ndarray
    cameras: list[str | None]


def main() -> int:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=Path(default))
    parser.add_argument("--only", help="networks, separated by commas")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs per network")
    parser.add_argument("--turn", type=int, help="pairs of a network, then the next")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a curve")
    parser.add_argument("--masks", type=int, default=MASKS, help="masks of RISE")
    parser.add_argument("--fill", choices=("all", *FILLS), default="all")
    parser.add_argument("--half", choices=tuple(HALVES), default="report")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--trials", action="store_true", help="ideas, not methods")
    parser.add_argument("--pasted", action="store_true", help="composites' answer")
    parser.add_argument("--demo", action="store_true", help="the demo world's answer")
    arguments = parser.parse_args()
    if arguments.demo:
        from faithfulness_demo import main as demo

        return int(demo(arguments.out))
    titles = arguments.only.split(",") if arguments.only else list(NETWORKS)
    unknown = sorted(set(titles) - set(NETWORKS))
    if unknown:
        parser.error(f"unknown network {unknown[0]!r}; use {', '.join(NETWORKS)}")
    if not arguments.table:
        if not arguments.assets.is_dir():
            print(f"no assets at {arguments.assets}; give --assets", file=sys.stderr)
            return 2
        for pairs in goals(arguments.pairs, arguments.turn):
            for title in titles:
                run(title, arguments, pairs)
    found, text = report(titles, arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{results_name(arguments)}.json").write_text(
        json.dumps(found, indent=1) + "\n"
    )
    print(text)
    return 0


def goals(pairs: int, turn: int | None) -> list[int]:
    """List how many pairs every network has after each turn."""
    turn = turn or pairs
    return [min(done, pairs) for done in range(turn, pairs + turn, turn)]


def run(title: str, arguments: argparse.Namespace, pairs: int) -> None:
    """Measure a network up to a number of pairs, or of composites."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    upto = argparse.Namespace(**{**vars(arguments), "pairs": pairs})
    if arguments.pasted:
        from faithfulness_pasted import measure as measure_pasted

        measure_pasted(title, upto)
    else:
        measure(title, upto)


def report(
    titles: list[str], arguments: argparse.Namespace
) -> tuple[list[dict[str, Any]], str]:
    """Summarize the networks that have lines, as figures and as Markdown."""
    import faithfulness_pasted
    import faithfulness_table

    there = [one for one in titles if lines_path(arguments, one).exists()]
    found = []
    for title in there:
        settings, lines = read_lines(lines_path(arguments, title))
        if arguments.pasted:
            found.append(faithfulness_pasted.summarize(settings, lines))
        else:
            compared = listed(title, arguments.trials, arguments.masks)
            found.append(faithfulness_table.summarize(settings, lines, compared))
    write = faithfulness_pasted.table if arguments.pasted else faithfulness_table.table
    return found, "\n\n".join(write(one) for one in found)


# --------------------------------------------------------------------------------------
# Lines
# --------------------------------------------------------------------------------------


def lines_path(arguments: argparse.Namespace, title: str) -> Path:
    """Return the file of a network's lines."""
    fill = fill_suffix(arguments)
    folder = results_name(arguments).removesuffix(fill)
    return arguments.out / folder / f"{title}{fill}.jsonl"


def results_name(arguments: argparse.Namespace) -> str:
    """Name what is measured, and the fill if it is one."""
    kind = "_pasted" if arguments.pasted else "_trials" if arguments.trials else ""
    return f"faithfulness{kind}{fill_suffix(arguments)}"


def fill_suffix(arguments: argparse.Namespace) -> str:
    """Return what tells the results under one fill from those under all."""
    plain = arguments.pasted or arguments.fill == "all"
    return "" if plain else f"_{arguments.fill}"


def resume(path: Path, settings: dict[str, Any], key: str = "query") -> set[int]:
    """Begin a file of lines, or return what it has lines of.

    Raises
    ------
    SystemExit
        If the file is of other settings.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings) + "\n")
        return set()
    old, lines = read_lines(path)
    for name in {**old, **settings}:
        if old.get(name) != settings.get(name):
            raise SystemExit(
                f"{path} was measured with {name} {old.get(name)}, not "
                f"{settings.get(name)}; move it away to begin anew."
            )
    return {line[key] for line in lines}


def listed(
    title: str, trials: bool, masks: int, threshold: float = 0.0
) -> tuple[Any, ...]:
    """List what is compared."""
    from faithfulness_held import HELD, held_methods

    if title in HELD:
        return held_methods(title, masks, threshold)
    if trials:
        from faithfulness_trials import trials as ideas

        return ideas()
    from faithfulness_methods import methods

    return methods(masks, threshold)


def read_lines(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read settings and finished queries."""
    head, *rest = map(json.loads, path.read_text().splitlines())
    return head, rest


def measure(title: str, arguments: argparse.Namespace) -> None:
    """Measure the queries of a network that have no line yet."""
    data = load_data(title, arguments.assets, HALVES[arguments.half])
    triples = choose(data, arguments.pairs // 2)
    limit = threshold(data)
    compared = listed(title, arguments.trials, arguments.masks, limit)
    settings = {
        "network": title,
        "half": arguments.half,
        "steps": arguments.steps,
        "masks": arguments.masks,
        "fills": fills_of(arguments),
        "images": len(data.images),
        "threshold": limit,
        "metric": data.model.metric,
        "layer": data.model.find_layer(data.images[:1]).name,
        "methods": [method.name for method in compared],
    }
    path = lines_path(arguments, title)
    done = resume(path, settings)
    for query, match, impostor in triples:
        if query in done:
            continue
        line = measure_query(data, query, (match, impostor), compared, arguments)
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def explain(
    compared: Sequence[Any], model: Any, image: Any, partners: Any
) -> tuple[list[tuple[str, Any]], dict[str, float]]:
    """Compute all maps of an image, and the seconds of each per partner.

    Each map has one for every partner, or one for all.
    """
    from fiftyone_sfam.audit.faithfulness.masks import upsample

    size = (int(image.shape[-2]), int(image.shape[-1]))
    shared: dict[Any, tuple[Any, float]] = {}
    found, seconds = [], {}
    for method in compared:
        if method.maps not in shared:
            begun = time.perf_counter()
            maps = method.maps(model, image, partners).detach()
            shared[method.maps] = maps, time.perf_counter() - begun
        maps, taken = shared[method.maps]
        seconds[method.name] = taken / len(partners)
        found.append((method.name, upsample(method.then(maps), size)))
    return found, seconds


def measure_query(
    data: Data,
    query: int,
    partners: tuple[int, int],
    compared: Sequence[Any],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Explain a query towards two partners by all methods, and mask it."""
    import torch
    from faithfulness_masking import batch_of

    from fiftyone_sfam.audit.faithfulness.masks import (
        MaskedEmbeddings,
        masked_embeddings,
        partner_ranks,
        similarity_curves,
    )

    image, others = data.images[query], data.embeddings[list(partners)]
    found, seconds = explain(compared, data.model, image, others)

    def embed(images: Any) -> Any:
        return data.model.embed(images.contiguous(memory_format=torch.channels_last))

    line: dict[str, Any] = {
        "query": query,
        "partners": partners,
        "seconds": seconds,
        "fills": {},
    }
    every = torch.cat([maps for _, maps in found])
    for fill in fills_of(arguments):
        masked = masked_embeddings(
            embed,
            image,
            every,
            steps=arguments.steps,
            fill=fill,
            other=donor(data, query, partners),
            batch_size=batch_of(image),
        )
        of_fill: dict[str, Any] = {"deletion": {}, "insertion": {}, "rank": {}}
        start = 0
        for name, maps in found:
            rows = [start] * 2 if len(maps) == 1 else [start, start + 1]
            start += len(maps)
            chosen = MaskedEmbeddings(masked.deletion[rows], masked.insertion[rows])
            curves = similarity_curves(chosen, others, data.model.metric)
            of_fill["deletion"][name] = curves.deletion.round(6).tolist()
            of_fill["insertion"][name] = curves.insertion.round(6).tolist()
            ranks = partner_ranks(
                masked.deletion[rows[0]],
                data.embeddings,
                partners[0],
                data.identities != data.identities[query],
                data.model.metric,
            )
            of_fill["rank"][name] = ranks.tolist()
        line["fills"][fill] = of_fill
    return line


def fills_of(arguments: argparse.Namespace) -> list[Any]:
    """List how pixels are hidden."""
    return list(FILLS) if arguments.fill == "all" else [arguments.fill]


def donor(data: Data, query: int, partners: tuple[int, int]) -> Any:
    """Draw an image of another identity than a query's and its partners'."""
    shown = data.identities[[query, *partners]]
    others = np.flatnonzero(~np.isin(data.identities, shown))
    return data.images[int(np.random.default_rng((0, query)).choice(others))]


# --------------------------------------------------------------------------------------
# Data
# --------------------------------------------------------------------------------------


@cache
def load_data(title: str, assets: Path, half: int) -> Data:
    """Load a network, and prepare and embed the images of half of the identities."""
    import torch
    from faithfulness_embedder import FastModel
    from faithfulness_held import HELD, load_held

    from fiftyone_sfam.data.images import read_image

    if title in HELD:
        model, folder = load_held(title, assets)
    else:
        reference = load_reference(assets)
        name = next(case.reference for case in CASES if case.title == title)
        network = reference.load_reference_model(name, assets)
        # Twice as fast on a processor, and the same to rounding.
        network = network.to(memory_format=torch.channels_last)
        model = FastModel(
            network, network.preprocess, metric=network.metric, name=title
        )
        folder = assets / "data" / reference.REFERENCE_MODELS[name].data_folder
    paths = sorted(folder.rglob("*.jpg"))
    named = [MARKET_NAME.match(path.name) for path in paths]
    identities = [
        match["identity"] if match else path.parent.name
        for match, path in zip(named, paths, strict=True)
    ]
    order = sorted(set(identities))
    kept = [i for i, one in enumerate(identities) if order.index(one) % 2 == half]
    images = torch.stack([model.prepare(read_image(paths[i])) for i in kept])
    if isinstance(model, FastModel) and title in FOLDED:
        model.fold(images[:16])
    embeddings = torch.cat([model.embed(part) for part in images.split(16)])
    matches = [named[i] for i in kept]
    return Data(
        title,
        model,
        images,
        embeddings,
        np.array([identities[i] for i in kept]),
        [match["camera"] if match else None for match in matches],
    )


def scores_of(data: Data) -> np.ndarray:
    """Return the similarities of all images, shape (N, N)."""
    from fiftyone_sfam.network.metric import similarity

    rows = [
        similarity(one, data.embeddings, data.model.metric) for one in data.embeddings
    ]
    return np.stack([row.double().numpy() for row in rows])


def kinds_of(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Tell which pairs are genuine and which impostor, shapes (N, N)."""
    same = data.identities[:, None] == data.identities
    cameras = np.array([camera or "" for camera in data.cameras])
    apart = cameras[:, None] != cameras if any(data.cameras) else np.ones_like(same)
    return same & apart & ~np.eye(len(same), dtype=bool), ~same


def threshold(data: Data) -> float:
    """Find the similarity of equal errors over all pairs of untouched images."""
    from fiftyone_sfam.audit.faithfulness.masks import equal_error_threshold

    scores = scores_of(data)
    genuine, impostor = kinds_of(data)
    return equal_error_threshold(scores[genuine], scores[impostor])


def choose(data: Data, count: int) -> list[tuple[int, int, int]]:
    """Draw queries; give each its best true match and its nearest impostor."""
    scores = scores_of(data)
    genuine, impostor = kinds_of(data)
    able = np.flatnonzero(genuine.any(axis=1))
    drawn = np.random.default_rng(0).permutation(able)[:count]
    return [
        (
            int(query),
            int(np.where(genuine[query], scores[query], -np.inf).argmax()),
            int(np.where(impostor[query], scores[query], -np.inf).argmax()),
        )
        for query in drawn
    ]


if __name__ == "__main__":
    sys.exit(main())
