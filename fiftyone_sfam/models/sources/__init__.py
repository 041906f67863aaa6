"""Models of other libraries, named in one line: ``timm:convnext_atto``.

A source names code to import or a file to read. It comes from the machine's owner: in
Python, on the command line, or in the registry file, never from a form of the App.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.errors import ModelError

if TYPE_CHECKING:
    from types import ModuleType

    from fiftyone_sfam.models.sources.built import Built
    from fiftyone_sfam.network.outputs import EmbeddingKey

# For each prefix, what follows it.
FORMS: Mapping[str, str] = {
    "timm": "timm:NAME or timm:hf-hub:ORG/NAME",
    "torchvision": "torchvision:NAME",
    "hf": "hf:ORG/NAME",
    "open_clip": "open_clip:ARCH/TAG",
    "hub": "hub:REPO:ENTRY",
    "onnx": "onnx:PATH",
}


@dataclass(frozen=True)
class Source:
    """A library and the name of a model in it."""

    library: str  # one of FORMS
    name: str

    def __str__(self) -> str:
        return f"{self.library}:{self.name}"

    @property
    def label(self) -> str:
        """Name for records and messages, without the folders of a path."""
        name, colon, entry = self.name, "", ""
        if self.library == "hub":
            name, colon, entry = name.rpartition(":")
        folder = Path(name).expanduser()
        if self.library == "onnx" or folder.is_dir():
            name = folder.name
        return f"{self.library}:{name}{colon}{entry}"


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What the owner says about a model of a source."""

    folder: Path  # that relative paths start from
    pretrained: bool | None = None  # None loads pretrained weights where there are any
    kwargs: Mapping[str, Any]  # for the library's function that builds the network
    size: tuple[int, int] | None = None  # height and width of the network's input
    embedding: EmbeddingKey | None = None
    allow_missing: tuple[str, ...] = ()  # patterns of weights that need not be loaded


def parse_source(text: str) -> Source | None:
    """Return the source that a text names; None if it has no known prefix."""
    library, colon, name = text.partition(":")
    if not colon or library not in FORMS or not name.strip():
        return None
    return Source(library, name)


def build_source(source: Source, options: SourceOptions) -> Built:
    """Build the network of a source, with its preprocessing."""
    module: ModuleType = importlib.import_module(
        f"fiftyone_sfam.models.sources.{_MODULES[source.library]}"
    )
    built: Built = module.build(source.name, options)
    return built


_MODULES = {
    "timm": "timm_models",
    "torchvision": "torchvision_models",
    "hf": "transformers_models",
    "open_clip": "open_clip_models",
    "hub": "hub_models",
    "onnx": "onnx_models",
}


def needs_extra(library: str, package: str, extra: str) -> ModelError:
    """Build the exception for a library that is not installed."""
    return ModelError(
        f"models of {library} need the package {package}; install it with "
        f"`pip install 'fiftyone-sfam[{extra}]'`."
    )
