"""The layouts of known data sets: where their images are, and what the names say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from fiftyone_sfam.data.layouts import lists
from fiftyone_sfam.data.layouts.tree import Tree

CSV = "csv"
"""The layout whose labels are in a table."""

_SPLITS = "train|val|valid|test|query|gallery"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a data set is laid out.

    The names of images, below the folder of their part and without the suffix, match
    one of the patterns, whose groups are the labels.
    """

    title: str
    example: str  # name of an image
    patterns: tuple[re.Pattern[str], ...]
    # By the name of the part: folders of which the first that exists is read.
    parts: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    splits: tuple[str, ...] = ()  # the parts that are splits
    flat: bool = False  # the images of one part may be given alone
    variants: tuple[str, ...] = ()  # the first is the default
    listed: Callable[[Tree], lists.Listed | None] | None = None
    junk: tuple[str, ...] = ()
    distractors: tuple[str, ...] = ()
    # Rules of the protocol beside that of identity and camera.
    exclude: tuple[tuple[str, ...], ...] = ()
    gallery_shots: int | None = None
    gallery_per: tuple[str, ...] = ()


def _patterns(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, patterns))


_MARKET = {
    "train": ("bounding_box_train",),
    "query": ("query",),
    "gallery": ("bounding_box_test",),
}

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "market1501": Layout(
            title="Market-1501",
            example="bounding_box_test/0002_c1s1_000451_03.jpg",
            patterns=_patterns(
                r"(?P<identity>-1|\d{4})_c(?P<camera>\d)s\d+_\d+_\d+(\.jpg)?"
            ),
            parts=_MARKET,
            splits=("train", "query", "gallery"),
            flat=True,
            junk=("-1",),
            distractors=("0000",),
        ),
        "dukemtmc-reid": Layout(
            title="DukeMTMC-reID",
            example="bounding_box_test/0002_c1_f0044158.jpg",
            patterns=_patterns(r"(?P<identity>\d{4})_c(?P<camera>\d)_f\d+(\.jpg)?"),
            parts=_MARKET,
            splits=("train", "query", "gallery"),
            flat=True,
        ),
        "msmt17": Layout(
            title="MSMT17",
            example="test/0000/0000_000_01_0303morning_0008_0.jpg",
            patterns=_patterns(
                r"(?P<identity>\d{4})/\d+_\d+_(?P<camera>\d+)_"
                r"(?P<date>\d{4})(?P<time>[a-z]+)_.+"
            ),
            parts={
                "train": ("train", "mask_train_v2"),
                "test": ("test", "mask_test_v2"),
            },
            listed=lists.msmt17,
        ),
        "cuhk03": Layout(
            title="CUHK03, new protocol",
            example="images_detected/1_001_1_01.png",
            patterns=_patterns(
                r"(?P<identity>\d_\d{3,4})_(?P<camera>\d)_\d+",
                r"(?P<identity>\d{4})_c(?P<camera>\d)_\d+",
            ),
            parts={
                "images": ("images_{variant}",),
                **{
                    split: (f"{{variant}}/{folder}", folder)
                    for split, (folder,) in _MARKET.items()
                },
            },
            splits=("train", "query", "gallery"),
            variants=("detected", "labeled"),
            listed=lists.cuhk03,
        ),
        "veri776": Layout(
            title="VeRi-776",
            example="image_test/0002_c002_00030600_0.jpg",
            patterns=_patterns(r"(?P<identity>\d{4})_c(?P<camera>\d{3})_\d+_\d+"),
            parts={
                "train": ("image_train",),
                "query": ("image_query",),
                "gallery": ("image_test",),
            },
            splits=("train", "query", "gallery"),
            flat=True,
            listed=lists.veri776,
        ),
        "vehicleid": Layout(
            title="VehicleID",
            example="image/0000001.jpg",
            patterns=_patterns(r"\d+"),
            parts={"images": ("image",)},
            variants=("800", "1600", "2400", "3200", "6000", "13164"),
            listed=lists.vehicleid,
            # Of each identity a random image is the gallery, the others are queries.
            gallery_shots=1,
        ),
        "sysu-mm01": Layout(
            title="SYSU-MM01",
            example="cam1/0001/0001.jpg",
            patterns=_patterns(r"cam(?P<camera>[1-6])/(?P<identity>\d{4})/\d+"),
            variants=("all", "indoor"),
            listed=lists.sysu_mm01,
            exclude=(("place",),),
            gallery_shots=1,
            gallery_per=("identity", "camera"),
        ),
        "mars": Layout(
            title="MARS",
            example="bbox_test/0002/0002C1T0001F001.jpg",
            patterns=_patterns(
                r"[^/]+/(?P<tracklet>(?P<identity>\d{4}|00-1)C(?P<camera>\d)T\d+)F\d+"
            ),
            parts={"train": ("bbox_train",), "test": ("bbox_test",)},
            splits=("train",),
            listed=lists.mars,
            junk=("00-1",),
            distractors=("0000",),
        ),
        "lfw": Layout(
            title="LFW",
            example="Li_Peng/Li_Peng_0001.jpg",
            patterns=_patterns(r"(?P<identity>[^/]+)/(?P=identity)_\d{4}"),
            parts={"": ("lfw", "lfw-deepfunneled", "lfw_funneled", "lfw2", "")},
        ),
        "celeba": Layout(
            title="CelebA",
            example="img_align_celeba/000001.jpg",
            patterns=_patterns(r"\d{6}"),
            parts={
                "images": (
                    "img_align_celeba/img_align_celeba",
                    "img_align_celeba",
                    "Img/img_align_celeba",
                )
            },
            listed=lists.celeba,
        ),
        "vggface2": Layout(
            title="VGGFace2",
            example="test/n000001/0001_01.jpg",
            patterns=_patterns(r"(?P<identity>n\d{6})/\d{4,}_\d{2}"),
            parts={"train": ("train",), "test": ("test",)},
            splits=("train", "test"),
            flat=True,
        ),
        "casia-webface": Layout(
            title="CASIA-WebFace",
            example="0000045/001.jpg",
            patterns=_patterns(r"(?P<identity>\d{6,7})/\d+"),
            parts={"": ("CASIA-WebFace", "CASIA-maxpy-clean", "")},
        ),
        "folders": Layout(
            title="a folder per identity",
            example="Ayo/1.png, or test/Ayo/1.png",
            patterns=_patterns(
                rf"(?:(?P<split>{_SPLITS})/)?(?P<identity>(?!(?:{_SPLITS})/)[^/]+)/.+",
            ),
        ),
        CSV: Layout(
            title="a table of images",
            example="metadata.csv with the columns path and identity",
            patterns=(),
            exclude=(("encounter",), ("tracklet",)),
        ),
    }
)
"""Layouts by their names."""
