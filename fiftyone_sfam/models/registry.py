"""The registry file: the models that a machine's owner has made available.

The file is JSON, written by the owner of the machine. It names code to run and files to
read, so no input of the App's users becomes part of it: they only choose among the
names of the models. Reading the file imports nothing.

::

    {"models": {"my-reid": {
        "factory": "my_package.networks:build",
        "kwargs": {"width": 0.25},
        "weights": "weights/my_reid.pth",
        "preprocess": {"size": [256, 128]}
    }}}

An entry names either a factory or a source, such as ``"source": "timm:convnext_atto"``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.sources import FORMS, Source, parse_source
from fiftyone_sfam.network.preprocess import Preprocessing

if TYPE_CHECKING:
    from fiftyone_sfam.network.metric import Metric
    from fiftyone_sfam.network.state import Precision

Origin = Literal["registry", "preset", "zoo"]


@dataclass(frozen=True)
class ModelInfo:
    """A model that :func:`fiftyone_sfam.models.load_model` knows by name.

    Attributes
    ----------
    name : str
        Name that ``load_model`` takes.
    source : {"registry", "preset", "zoo"}
        Where the model comes from: the owner's registry file, this package, or
        FiftyOne's model zoo.
    metric : {"cosine", "euclidean"}
        How its embeddings are meant to be compared.
    description : str
        One line, possibly empty.
    """

    name: str
    source: Origin
    metric: Metric
    description: str


ENVIRONMENT = "FIFTYONE_SFAM_MODELS"
FILE_NAME = "sfam_models.json"

# NUL and halves of surrogate pairs, which JSON allows.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_REFERENCE = re.compile(r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|.+\.py):[A-Za-z_][\w.]*")
# Tensors on the device "meta" have no values.
_DEVICE = re.compile(r"(?!meta\b)[a-z]+(?::\d{1,3})?")


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """One entry of the registry file, or a source with options; not loaded yet."""

    name: str  # the entry's key
    registry: Path | None  # the file that holds it; None for a source given in Python
    # One of the two: package.module:callable or path/to/file.py:callable, or a source.
    factory: str | None = None
    source: Source | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)  # of the factory or source
    python_path: tuple[Path, ...] = ()
    pretrained: bool | None = None  # whether the source loads weights of its own
    size: tuple[int, int] | None = None  # these three instead of the source's own
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    weights: Path | None = None  # .safetensors file or torch checkpoint
    weights_key: tuple[str, ...] = ()  # where the state dict is in a nested checkpoint
    strip_prefix: str = ""  # removed from the names in the state dict
    strict: bool = True
    allow_missing: tuple[str, ...] = ()  # patterns of weights that need not be loaded
    preprocess: Callable[..., Any] | None = None  # declared preprocessing
    preprocess_factory: str | None = None
    layer: str | None = None  # layer to explain
    metric: Metric = "cosine"  # how embeddings are compared
    embedding: str | int | tuple[str | int, ...] | None = None
    embedding_layer: str | None = None  # module whose output is the embedding
    inputs: Mapping[str, str] = field(default_factory=dict)
    precision: Precision = "float32"
    device: str | None = None  # where the network runs, as torch names it
    description: str = ""  # one line for forms

    @property
    def info(self) -> ModelInfo:
        """Entry in the list of models."""
        return ModelInfo(self.name, "registry", self.metric, self.description)

    @property
    def folder(self) -> Path:
        """Folder that relative paths start from."""
        return Path.cwd() if self.registry is None else self.registry.parent

    def error(self, key: str, problem: object) -> ModelError:
        """Build the exception for a problem with one of the entry's keys."""
        return _error(self.registry, self.name, key, problem)


def registry_path() -> Path:
    """Return the path of the registry file, which need not exist."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named).expanduser().absolute()
    from fiftyone.core.config import locate_config

    return Path(locate_config()).expanduser().absolute().parent / FILE_NAME


def read_registry(path: str | Path | None = None) -> Mapping[str, RegisteredModel]:
    """Read and check the registry file."""
    file = registry_path() if path is None else Path(path).absolute()
    text = _read(file)
    if text is None:
        return MappingProxyType({})
    content = _parse(text, file)
    if not isinstance(content, dict) or set(content) != {"models"}:
        raise ModelError(
            f'the registry file {file} must be {{"models": {{NAME: ...}}}} and nothing '
            "else."
        )
    models = content["models"]
    if not isinstance(models, dict):
        raise ModelError(f"in the registry file {file}, 'models' is not an object.")
    return MappingProxyType({name: _entry(file, name, models[name]) for name in models})


def entry_of_source(source: Source, options: Mapping[str, Any]) -> RegisteredModel:
    """Check the options of a source as those of an entry are checked."""
    name = source.label
    for key, value in options.items():
        if key not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise _error(None, name, key, f"the option is unknown; known are {known}")
        if key != "preprocess" or isinstance(value, dict):
            _check_value(None, name, key, _plain(value))
    _check_together(None, name, {"source": str(source), **options})
    values = {key: _plain(value) for key, value in options.items()}
    return RegisteredModel(
        name=name, registry=None, source=source, **_converted(None, name, values)
    )


def _plain(value: Any) -> Any:
    """Return a value as JSON would have it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


# --------------------------------------------------------------------------------------
# Text
# --------------------------------------------------------------------------------------


def _read(file: Path) -> str | None:
    """Read the file's text; None if there is no file."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"the registry file {file} cannot be read ({reason}); correct "
            f"{ENVIRONMENT} or the file."
        ) from error


def _parse(text: str, file: Path) -> Any:
    """Parse JSON in which no key occurs twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in content if keys.count(key) > 1)
            raise ModelError(
                f"the registry file {file} has the key {twice!r} twice in one object."
            )
        return content

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ModelError(
            f"the registry file {file} is not valid JSON: {error.msg} in line "
            f"{error.lineno}, column {error.colno}."
        ) from error
    except ModelError:
        raise
    # Python refuses to read integers of thousands of digits.
    except ValueError as error:
        raise ModelError(
            f"the registry file {file} cannot be read: {error}."
        ) from error
    except RecursionError as error:
        raise ModelError(f"the registry file {file} is nested too deeply.") from error


# --------------------------------------------------------------------------------------
# Entries
# --------------------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    """Return whether a value is a usable text that is not blank."""
    return _is_line(value) and bool(value.strip())


def _is_line(value: Any) -> bool:
    """Return whether a value is a text of characters that a file name can have."""
    return isinstance(value, str) and _UNUSABLE.search(value) is None


def _is_texts(value: Any) -> bool:
    """Return whether a value is a list of such texts, not empty."""
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_reference(value: Any) -> bool:
    """Return whether a value names a callable in a module or a file."""
    return _is_text(value) and _REFERENCE.fullmatch(value) is not None


def _is_index(value: Any) -> bool:
    """Return whether a value is a key or an index."""
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _is_source(value: Any) -> bool:
    """Return whether a value names a source."""
    return _is_text(value) and parse_source(value) is not None


def _is_numbers(value: Any) -> bool:
    """Return whether a value is a list of three numbers."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(v, (int, float)) for v in value)
    )


def _is_size(value: Any) -> bool:
    """Return whether a value is a height and a width."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(v) is int and v > 0 for v in value)
    )


def _is_entry(value: Any) -> bool:
    """Return whether a value is a key or an index, or a list of them, not empty."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_index, value))
    return _is_index(value)


def _is_inputs(value: Any) -> bool:
    """Return whether a value names a field for each of some arguments."""
    return (
        isinstance(value, dict)
        and all(map(_is_text, value.values()))
        and all(name.isidentifier() for name in value)
    )


def _is_device(value: Any) -> bool:
    """Return whether a value has the form of a device's name."""
    return isinstance(value, str) and _DEVICE.fullmatch(value) is not None


_REFERENCE_TEXT = "'package.module:callable' or 'path/to/file.py:callable'"

# For each key, the test of its value and a description for messages.
_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "factory": (_is_reference, _REFERENCE_TEXT),
    "source": (_is_source, f"one of {', '.join(FORMS.values())}"),
    "pretrained": (lambda value: isinstance(value, bool), "true or false"),
    "size": (_is_size, "a height and a width in whole pixels"),
    "mean": (_is_numbers, "three numbers"),
    "std": (_is_numbers, "three numbers"),
    "kwargs": (lambda value: isinstance(value, dict), "an object"),
    "python_path": (_is_texts, "a list of folders"),
    "weights": (_is_text, "the path of a file"),
    "weights_key": (lambda v: _is_text(v) or _is_texts(v), "a text or a list of texts"),
    "strip_prefix": (_is_text, "a text"),
    "strict": (lambda value: isinstance(value, bool), "true or false"),
    "allow_missing": (_is_texts, "a list of patterns, such as 'classifier.*'"),
    "preprocess": (lambda value: isinstance(value, dict), "an object"),
    "preprocess_factory": (_is_reference, _REFERENCE_TEXT),
    "layer": (_is_text, "the name of a module"),
    "metric": (
        lambda value: value in ("cosine", "euclidean"),
        "'cosine' or 'euclidean'",
    ),
    "precision": (
        lambda value: value in ("float32", "bfloat16", "float16"),
        "'float32', 'bfloat16' or 'float16'",
    ),
    "embedding": (_is_entry, "a text or a whole number, or a list of them"),
    "inputs": (_is_inputs, "an object that names a field for each argument"),
    "embedding_layer": (_is_text, "the name of a module"),
    "device": (_is_device, "a device as torch names it, such as 'cuda' or 'cuda:1'"),
    "description": (_is_line, "a text"),
}


# For some keys, the key without which they have no effect.
_NEEDS = {
    "python_path": "factory",
    **dict.fromkeys(("pretrained", "size", "mean", "std"), "source"),
    **dict.fromkeys(("weights_key", "strip_prefix", "strict"), "weights"),
}
# Keys that are options of a source given in Python.
_OPTIONS = tuple(
    key
    for key in _KEYS
    if key
    not in ("factory", "source", "python_path", "preprocess_factory", "description")
    and key not in ("layer", "device")
)


def _entry(file: Path, name: str, options: Any) -> RegisteredModel:
    """Check one entry."""
    if not _is_text(name):
        raise ModelError(f"the registry file {file} has a model without a name.")
    if not isinstance(options, dict):
        raise ModelError(
            f"in the registry file {file}, model {name!r} is not an object."
        )
    for key, value in options.items():
        _check_value(file, name, key, value)
    _check_together(file, name, options)
    return RegisteredModel(name=name, registry=file, **_converted(file, name, options))


def _check_together(file: Path | None, name: str, options: Mapping[str, Any]) -> None:
    """Raise if keys are missing or do not belong together."""
    if ("factory" in options) == ("source" in options):
        problem = "give either it or source, not both"
        if "factory" not in options:
            problem = f"it is missing; give {_REFERENCE_TEXT}, or a source"
        raise _error(file, name, "factory", problem)
    declared = [key for key in ("preprocess", "preprocess_factory") if key in options]
    if len(declared) == 2 or not (declared or "source" in options):
        raise _error(
            file, name, "preprocess", "give either it or preprocess_factory, not both"
        )
    for key, other in _NEEDS.items():
        if key in options and other not in options:
            raise _error(file, name, key, f"it has no effect without {other}")
    if "allow_missing" in options and not options.keys() & {"weights", "source"}:
        raise _error(file, name, "allow_missing", "it has no effect without weights")
    for key in ("size", "mean", "std"):
        if key in options and declared:
            raise _error(file, name, key, f"it has no effect beside {declared[0]}")


def _check_value(file: Path | None, name: str, key: str, value: Any) -> None:
    """Raise if a key is unknown or has a value of the wrong kind."""
    if key not in _KEYS:
        known = ", ".join(_KEYS)
        raise _error(file, name, key, f"the key is unknown; known are {known}")
    test, words = _KEYS[key]
    if not test(value):
        raise _error(
            file, name, key, f"{shorten(json.dumps(value), 60)} is not {words}"
        )


def _converted(
    file: Path | None, name: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Turn checked JSON values into those of ``RegisteredModel``."""
    values = dict(options)
    if isinstance(values.get("source"), str):
        values["source"] = parse_source(values["source"])
    for key in ("size", "mean", "std", "allow_missing", "embedding"):
        if isinstance(values.get(key), list):
            values[key] = tuple(values[key])
    for key in {"kwargs", "inputs"} & values.keys():
        values[key] = MappingProxyType(values[key])
    if "python_path" in values:
        values["python_path"] = tuple(_path(file, p) for p in values["python_path"])
    if "weights" in values:
        values["weights"] = _path(file, values["weights"])
    if "weights_key" in values:
        key = values["weights_key"]
        values["weights_key"] = (key,) if isinstance(key, str) else tuple(key)
    if isinstance(values.get("preprocess"), dict):
        try:
            values["preprocess"] = Preprocessing.from_dict(values["preprocess"])
        # Values of wrong types can raise a TypeError too.
        except (TypeError, ValueError) as error:
            raise _error(file, name, "preprocess", error) from error
    return values


def _path(file: Path | None, value: str) -> Path:
    """Return a path, relative to the folder of the registry file."""
    folder = Path.cwd() if file is None else file.parent
    return folder / Path(value).expanduser()


def _error(file: Path | None, name: str, key: str, problem: object) -> ModelError:
    """Build the exception that names the file, the model and the key."""
    text = str(problem).rstrip(".")
    if file is None:
        return ModelError(f"model {name!r}, option {key!r}: {text}.")
    return ModelError(
        f"in the registry file {file}, model {name!r}, key {key!r}: {text}."
    )
