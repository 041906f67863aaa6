"""The demo world's cameras: what each of them does to a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter


@dataclass(frozen=True)
class Camera:
    """A camera: where it hangs and how it sees."""

    name: str
    scenes: tuple[str, ...]  # places that it looks at
    gain: float = 1.0  # light
    contrast: float = 1.0  # spread around middle gray
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)  # factors of red, green and blue
    blur: float = 0.0  # radius of a Gaussian, as a share of the picture's height
    noise: float = 2.0
    detail: float = 1.0
    scale: tuple[float, float] = (0.86, 0.94)
    shift: float = 0.05


CAMERAS: tuple[Camera, ...] = (
    Camera("c1", ("street", "plaza"), gain=1.04, contrast=1.05, noise=1.5),
    Camera(
        "c2",
        ("shop", "hall"),
        gain=0.95,
        cast=(1.07, 1.0, 0.89),
        blur=0.0035,
        scale=(0.84, 0.96),
    ),
    Camera(
        "c3",
        ("park", "street"),
        gain=1.0,
        cast=(0.93, 1.0, 1.08),
        noise=3.5,
        detail=0.75,
        scale=(0.8, 0.9),
    ),
    Camera(
        "c4",
        ("station", "hall"),
        gain=0.82,
        contrast=0.88,
        cast=(0.97, 1.04, 0.98),
        noise=4.0,
        scale=(0.9, 1.02),
        shift=0.08,
    ),
    Camera("c5", ("plaza", "park"), gain=1.14, contrast=0.9, noise=2.0, blur=0.002),
    Camera(
        "c6",
        ("shop", "station"),
        gain=0.88,
        contrast=1.1,
        cast=(1.05, 0.97, 0.97),
        detail=0.6,
        noise=3.0,
        shift=0.07,
    ),
)


def expose(
    camera: Camera, image: Image.Image, rng: np.random.Generator, *, gain: float = 1.0
) -> Image.Image:
    """Let a camera take a picture."""
    if camera.detail < 1:
        coarse = (
            max(1, round(image.width * camera.detail)),
            max(1, round(image.height * camera.detail)),
        )
        image = image.resize(coarse, Image.Resampling.BILINEAR).resize(
            image.size, Image.Resampling.BICUBIC
        )
    if camera.blur > 0:
        image = image.filter(ImageFilter.GaussianBlur(camera.blur * image.height))
    pixels: np.ndarray = np.asarray(image, np.float32)
    pixels = (pixels - 128) * np.float32(camera.contrast) + 128
    pixels = (
        pixels * np.asarray(camera.cast, np.float32) * np.float32(camera.gain * gain)
    )
    # One grain for all channels plus a little per channel reads as sensor noise.
    grain = rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    color = rng.standard_normal(pixels.shape, dtype=np.float32)
    pixels = pixels + np.float32(camera.noise) * (0.8 * grain + 0.6 * color)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
