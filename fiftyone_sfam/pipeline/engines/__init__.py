"""Who does the work of a run: this process, or the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.pipeline.engines.local import Engine, Work

__all__ = ["ENGINES", "Engine", "Work", "check_engine", "make_engine"]

ENGINES = ("local", "ray")
"""Names of the engines."""


def check_engine(engine: str, options: Mapping[str, Any] | None) -> None:
    """Refuse an engine or options that there are not, before anything is computed."""
    if engine not in ENGINES:
        raise DataError(f"unknown engine {engine!r}; use one of {', '.join(ENGINES)}.")
    if engine == "ray":
        from fiftyone_sfam.pipeline.engines.ray_engine import (
            RayOptions,
            check_installed,
        )

        check_installed()
        RayOptions.of(options)
    elif options:
        raise DataError(
            f"the engine 'local' has no options, but {', '.join(sorted(options))} "
            "were given; they are the engine 'ray's."
        )


def make_engine(engine: str, work: Work, options: Mapping[str, Any] | None) -> Engine:
    """Set an engine up."""
    check_engine(engine, options)
    if engine == "ray":
        from fiftyone_sfam.pipeline.engines.ray_engine import RayEngine, RayOptions

        return RayEngine(work, RayOptions.of(options))
    from fiftyone_sfam.pipeline.engines.local import LocalEngine

    return LocalEngine(work)
