"""The engine "ray": the workers of a Ray cluster, which share the database.

Workers receive numbers of shards and return embeddings and summaries of shards; they
write their results to the database themselves. A worker that dies is replaced, and what
it has not stored is computed again.
"""

from __future__ import annotations

import copy
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import fiftyone as fo
import ray
from fiftyone.core.odm import get_db_conn
from ray.exceptions import RayActorError, RayTaskError

from fiftyone_sfam.errors import DataError, WorkerError
from fiftyone_sfam.pipeline.engines.ray_worker import ShardWorker, WorkerSettings
from fiftyone_sfam.pipeline.shards import (
    Embedded,
    Explained,
    embedding_name,
    read_embedded,
    read_explained,
)
from fiftyone_sfam.pipeline.streaming import MapTask
from fiftyone_sfam.runs.run_table import shard_name

if TYPE_CHECKING:
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.pipeline.engines import Work


@dataclass(frozen=True)
class RayOptions:
    """How a run uses a Ray cluster.

    Attributes
    ----------
    num_workers : int, optional
        Number of workers. By default as many as the cluster has room for.
    cpus_per_worker : float
        Processor cores per worker; it reads images in as many threads.
    gpus_per_worker : float
        GPUs per worker; may be a fraction. Above 0 the model runs on the GPU.
    shards_per_task : int, optional
        Shards that a worker receives at a time. By default a hundredth of its share, at
        most 8: a worker that is killed loses those that it has not stored.
    runtime_env : mapping, optional
        Ray's ``runtime_env`` of the workers, for code or packages that they need.

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
                "cpus_per_worker and gpus_per_worker are both 0, so that no worker can "
                "run; give one of them."
            )

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> RayOptions:
        """Make options from a mapping.

        Raises
        ------
        DataError
            If an option is unknown or cannot be used.
        """
        known = [field.name for field in fields(cls)]
        for name in options or {}:
            if name not in known:
                raise DataError(
                    f"the engine 'ray' has no option {name!r}; its options are "
                    f"{', '.join(known)}."
                )
        return cls(**(options or {}))


# Tasks that a worker has at a time: one that it computes and one that waits.
_AHEAD = 2
# So many workers must die over the same shards before the run stops.
_DEATHS = 3
_LONGEST_TASK = 8
# Environment variables that the workers get from this process.
_SHARED = ("FIFTYONE_DO_NOT_TRACK", "FIFTYONE_SFAM_MODELS", "FIFTYONE_MODEL_ZOO_DIR")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass
class _Worker:
    """A worker with its tasks. A new actor takes the place of one that dies."""

    actor: Any = None
    starting: list[ray.ObjectRef] = field(default_factory=list)  # before all tasks
    tasks: dict[ray.ObjectRef, list[int]] = field(default_factory=dict)
    owned: list[int] = field(default_factory=list)  # numbers that its cache may serve


class RayEngine(AbstractContextManager["RayEngine"]):
    """Computes the shards with the workers of a Ray cluster."""

    def __init__(self, work: Work, options: RayOptions) -> None:
        self._work, self._options = work, options
        self._store = work.store
        self._own_cluster = not ray.is_initialized()
        if self._own_cluster:
            _connect()
        self._workers: list[_Worker] = []
        self._task: ray.ObjectRef | None = None
        try:
            self._actor_type = self._make_actor_type()
            self._shared = (
                ray.put(work.items),
                work.model_name or ray.put(_on_cpu(work.model)),
                self._settings(),
            )
            self._workers = [_Worker() for _ in range(self._count())]
            for worker in self._workers:
                self._start(worker)
        except BaseException:
            self._close()
            raise

    def embed(self, numbers: Sequence[int]) -> Iterator[Embedded]:
        """Compute and store blocks of embeddings, in any order."""

        def read(stored: Sequence[int]) -> Iterator[Embedded]:
            return (read_embedded(self._store, number) for number in stored)

        for worker, block in self._distribute("embed", numbers, embedding_name, read):
            if worker is not None:
                worker.owned.append(block.number)
            yield block

    def explain(self, task: MapTask, numbers: Sequence[int]) -> Iterator[Explained]:
        """Compute and store shards of maps, in any order.

        A worker first gets the shards whose images it has embedded: its cache may hold
        what they need.
        """
        self._task = ray.put(task)
        for worker in self._workers:
            worker.starting.append(worker.actor.set_task.remote(self._task))
        self._own_shards(task)

        def read(stored: Sequence[int]) -> Iterator[Explained]:
            kind = task.settings.heatmap_kind
            return read_explained(self._store, task.pairs, kind, stored)

        for _, shard in self._distribute("explain", numbers, shard_name, read):
            yield shard

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait until no worker writes any more, and stop the workers."""
        self._close()

    # -- distribution ------------------------------------------------------------------

    def _distribute(
        self,
        method: str,
        numbers: Sequence[int],
        name_of: Callable[[int], str],
        read: Callable[[Sequence[int]], Iterator[Any]],
    ) -> Iterator[tuple[_Worker | None, Any]]:
        """Call a method of the workers for all numbers; yield worker and result.

        Results that a worker has stored before it died are read, without a worker.
        """
        waiting = _Waiting(numbers, self._workers, self._task_length(len(numbers)))
        deaths: Counter[int] = Counter()
        while len(waiting) or any(worker.tasks for worker in self._workers):
            for worker in self._workers:
                while len(worker.tasks) < _AHEAD and len(waiting):
                    chosen = waiting.take(worker)
                    task = getattr(worker.actor, method).remote(chosen)
                    worker.tasks[task] = chosen
            tasks = [task for worker in self._workers for task in worker.tasks]
            ready, _ = ray.wait(tasks, num_returns=1)
            worker = next(w for w in self._workers if ready[0] in w.tasks)
            try:
                # An error while starting is the cause of the errors that follow.
                _, results = ray.get(worker.starting), ray.get(ready[0])
            except RayTaskError as error:
                raise error.cause from error
            except RayActorError as error:
                names = self._store.names()
                left = [[*chosen] for chosen in worker.tasks.values()]
                missing = [[n for n in one if name_of(n) not in names] for one in left]
                self._replace(worker, deaths, cause_of_death(missing), error)
                waiting.put_back([number for one in missing for number in one])
                stored = [n for one in left for n in one if name_of(n) in names]
                yield from ((None, result) for result in read(stored))
                continue
            del worker.tasks[ready[0]]
            yield from ((worker, result) for result in results)

    def _replace(
        self,
        worker: _Worker,
        deaths: Counter[int],
        cause: Sequence[int],
        error: RayActorError,
    ) -> None:
        """Replace a dead worker, unless too many died over the same shards."""
        deaths.update(cause)
        most = max((deaths[number] for number in cause), default=0)
        worker.tasks.clear()
        worker.owned.clear()
        if most >= _DEATHS:
            raise WorkerError(
                f"{most} workers died one after the other over the {len(cause)} "
                f"shards from number {cause[0]} on. What is stored is kept, and the "
                f"same call resumes from there. Ray says: {error}"
            ) from error
        self._start(worker)

    def _start(self, worker: _Worker) -> None:
        """Start an actor for a worker."""
        worker.actor = self._actor_type.remote()
        worker.starting = [worker.actor.set_up.remote(*self._shared)]
        if self._task is not None:
            worker.starting.append(worker.actor.set_task.remote(self._task))

    def _task_length(self, numbers: int) -> int:
        """Choose how many numbers a worker gets at a time."""
        if self._options.shards_per_task is not None:
            return self._options.shards_per_task
        return min(_LONGEST_TASK, max(1, numbers // (100 * len(self._workers))))

    def _own_shards(self, task: MapTask) -> None:
        """Turn the blocks that workers own into shards."""
        plan = task.plan
        if not plan.whole_blocks:
            return
        blocks = plan.order[plan.bounds[:-1]] // plan.shard_images
        shard_of = {int(block): shard for shard, block in enumerate(blocks)}
        for worker in self._workers:
            shards = (shard_of.get(block) for block in sorted(worker.owned))
            worker.owned = [shard for shard in shards if shard is not None]

    # -- the cluster -------------------------------------------------------------------

    def _count(self) -> int:
        """Choose the number of workers; raise if the cluster has no room for them."""
        options = self._options
        needs = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker}
        has = ray.cluster_resources()
        room = min(
            int(has.get(unit, 0) / each + 1e-6) for unit, each in needs.items() if each
        )
        wanted = room if options.num_workers is None else options.num_workers
        if room < max(wanted, 1):
            asked = " and ".join(f"{each:g} {unit}" for unit, each in needs.items())
            raise DataError(
                f"the Ray cluster has room for {room} workers of {asked} each, not for "
                f"{max(wanted, 1)}; give fewer num_workers, cpus_per_worker or "
                "gpus_per_worker."
            )
        return wanted

    def _make_actor_type(self) -> Any:
        """Return the class of the actors, with the environment that they need."""
        options = self._options
        runtime_env = dict(options.runtime_env or {})
        runtime_env["env_vars"] = {
            **{name: os.environ[name] for name in _SHARED if name in os.environ},
            **runtime_env.get("env_vars", {}),
            "FIFTYONE_DATABASE_URI": _database_uri(),
            "FIFTYONE_DATABASE_NAME": fo.config.database_name,
        }
        return ray.remote(ShardWorker).options(
            num_cpus=options.cpus_per_worker,
            num_gpus=options.gpus_per_worker,
            runtime_env=runtime_env,
        )

    def _settings(self) -> WorkerSettings:
        """Return the settings of the workers."""
        work, options = self._work, self._options
        threads = max(1, int(options.cpus_per_worker))
        return WorkerSettings(
            batch_size=work.batch_size,
            num_workers=threads
            if work.num_workers is None
            else max(0, work.num_workers),
            cache_bytes=work.cache_bytes,
            device="cuda" if options.gpus_per_worker else "cpu",
            dataset_id=work.store.dataset_id,
            uid=work.store.uid,
            fingerprint=work.store.fingerprint,
            layer=work.layer,
        )

    def _close(self) -> None:
        """Stop the workers after their current tasks."""
        for worker in self._workers:
            tasks = list(worker.tasks)
            for waiting in tasks[1:]:
                ray.cancel(waiting)
            if tasks:
                ray.wait(tasks, num_returns=len(tasks))
            if worker.actor is not None:
                ray.kill(worker.actor)
        self._workers = []
        if self._own_cluster:
            ray.shutdown()


class _Waiting:
    """Numbers that no worker has been given yet, with a queue per owner."""

    def __init__(
        self, numbers: Sequence[int], workers: Sequence[_Worker], length: int
    ) -> None:
        left = set(numbers)
        self._length = length
        self._owned = {
            id(worker): deque(number for number in worker.owned if number in left)
            for worker in workers
        }
        owned = {number for queue in self._owned.values() for number in queue}
        self._unowned = deque(number for number in numbers if number not in owned)

    def __len__(self) -> int:
        return len(self._unowned) + sum(map(len, self._owned.values()))

    def put_back(self, numbers: Sequence[int]) -> None:
        """Put numbers in front of the others that have no owner."""
        self._unowned.extendleft(reversed(numbers))

    def take(self, worker: _Worker) -> list[int]:
        """Remove the next numbers: the worker's, unowned ones, or another worker's."""
        longest = max(self._owned.values(), key=len)
        for queue in (self._owned[id(worker)], self._unowned, longest):
            if queue:
                count = min(self._length, len(queue))
                if queue is longest and queue is not self._owned[id(worker)]:
                    return [queue.pop() for _ in range(count)][::-1]
                return [queue.popleft() for _ in range(count)]
        return []


def cause_of_death(missing: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the shards that a worker died over, of those missing of each task in turn.

    Those of tasks behind the first unfinished one are not the cause. A task of which
    nothing is missing was finished, though its worker died before it could say so.
    """
    return next((numbers for numbers in missing if numbers), [])


def _connect() -> None:
    """Connect to the cluster that the environment names, or start one."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
        return
    try:
        ray.init(address="auto", log_to_driver=False)
    except ConnectionError as error:
        raise DataError(
            f"no Ray cluster can be reached at RAY_ADDRESS={address} ({error}); unset "
            "it to start one on this machine."
        ) from error


def _database_uri() -> str:
    """Return the address of the database; raise if other machines cannot reach it."""
    host, port = get_db_conn().client.address
    uri = fo.config.database_uri or f"mongodb://{host}:{port}"
    nodes = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(nodes) > 1 and (urlsplit(uri).hostname or host) in _LOOPBACK:
        raise DataError(
            f"the Ray cluster has {len(nodes)} machines, which cannot reach this one's "
            f"database at {host}; set FIFTYONE_DATABASE_URI to an address that all of "
            "them can reach."
        )
    return uri


def _on_cpu(model: EmbeddingModel) -> EmbeddingModel:
    """Return a model that can be sent to a machine without a GPU."""
    if model.device.type == "cpu":
        return model
    moved = copy.deepcopy(model)
    moved.network.cpu()
    return moved
