"""Options of the engine on a Ray cluster, known without importing Ray."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fiftyone_sfam.errors import DataError


@dataclass(frozen=True)
class RayOptions:
    """How a run uses a Ray cluster.

    Attributes
    ----------
    num_workers : int, optional
        Workers. By default as many as the cluster has room for.
    cpus_per_worker : float
        Processor cores that each takes; it reads images in as many threads.
    gpus_per_worker : float
        GPUs that each takes; may be a part of one. Above 0 the model runs on it.
    shards_per_task : int, optional
        Shards that a worker is given at a time. By default a hundredth of its share, at
        most 8: what a killed worker had not stored of them is done again.
    runtime_env : mapping, optional
        Ray's ``runtime_env`` of the workers, to bring code or packages along.

    Raises
    ------
    DataError
        If a number cannot be used.
    """

    num_workers: int | None = None
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    shards_per_task: int | None = None
    runtime_env: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("num_workers", "shards_per_task"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise DataError(
                    f"{name} is {value!r}; a whole number from 1 is needed."
                )
        for name in ("cpus_per_worker", "gpus_per_worker"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise DataError(f"{name} is {value!r}; a number from 0 is needed.")
        if self.cpus_per_worker == 0 and self.gpus_per_worker == 0:
            raise DataError(
                "a worker without processor and GPU has no place to run; give "
                "cpus_per_worker or gpus_per_worker."
            )

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> RayOptions:
        """Take the options as a caller gave them.

        Raises
        ------
        DataError
            If one is unknown or cannot be used.
        """
        known = [field.name for field in fields(cls)]
        for name in options or {}:
            if name not in known:
                raise DataError(
                    f"the engine 'ray' has no option {name!r}; its options are "
                    f"{', '.join(known)}."
                )
        return cls(**(options or {}))


def check_installed() -> None:
    """Refuse to go on without Ray."""
    if importlib.util.find_spec("ray") is None:
        raise DataError(
            "the engine 'ray' needs the package ray; install fiftyone-sfam[ray]."
        )
