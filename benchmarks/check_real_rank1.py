"""The rank-1 that the networks of ``check_real.py`` are known to reach."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

OSNET_ONNX = "osnet_x0_25_msmt17_dynamic_batch.onnx"
MARKET_NAME = re.compile(r"(?P<identity>-?\d+)_c(?P<camera>\d)")

# How the assets' description says the rank-1 of networks that are not in its table.
WORDS = {
    "edgeface": r"EdgeFace-XS AUC [\d.]+, rank-1 (\d\.\d+)",
    "class_token_vit": r"class-token ViT: AUC [\d.]+, rank-1 (\d\.\d+)",
    "mobilefacenet_onnx": r"ONNX MobileFaceNet [\d.]+, (\d\.\d+)",
}


def described_rank1(title: str, assets: Path) -> float:
    """Read the rank-1 of a network in the description of the assets."""
    words = WORDS.get(title, rf"\| {title}[^|]*\|[^|]*\|[^|]*\| ([\d.]+) \|")
    found = re.search(words, sources(assets))
    assert found is not None
    return float(found[1])


def sources(assets: Path) -> str:
    """Return the assets' own description from its second table on."""
    text = (assets / "SOURCES.md").read_text()
    return text[text.index("## What they reach here") :]


def runtime_rank1(file: Path, model: Any, paths: list[str]) -> float:
    """Return the rank-1 across cameras of an ONNX file in onnxruntime.

    The weights of OSNet there differ from those of its other file, so the assets'
    description does not say it.
    """
    import numpy as np
    import onnxruntime

    from fiftyone_sfam.data.images import read_image

    session = onnxruntime.InferenceSession(
        str(file), providers=["CPUExecutionProvider"]
    )
    (images,) = session.get_inputs()
    embeddings = np.concatenate(
        [
            session.run(
                None, {images.name: model.prepare(read_image(path))[None].numpy()}
            )[0]
            for path in paths
        ]
    ).astype(np.float64)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    names = [MARKET_NAME.match(Path(path).name) for path in paths]
    identity, camera = (
        np.array([name[part] for name in names if name])
        for part in ("identity", "camera")
    )
    scores = embeddings @ embeddings.T
    is_same = identity[:, None] == identity
    scores[is_same & (camera[:, None] == camera)] = -np.inf
    best = scores.argmax(1)
    return round(float(is_same[np.arange(len(best)), best].mean()), 4)
