"""The work on a Ray cluster: workers that share the database, each with some shards.

Nothing but numbers of shards goes out and nothing but small results come back; maps and
embeddings are written to the database by the worker that computes them. A worker that
dies is replaced, and what it had not stored is given out again.
"""

from __future__ import annotations

import copy
import importlib.util
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import fiftyone as fo
import ray
from fiftyone.core.odm import get_db_conn
from ray.exceptions import RayActorError, RayTaskError

from fiftyone_sfam.errors import DataError, WorkerError
from fiftyone_sfam.pipeline.engines.local import Engine, Work
from fiftyone_sfam.pipeline.engines.ray_worker import ShardWorker, WorkerSettings
from fiftyone_sfam.pipeline.shards import Embedded, embedding_name, read_embedded
from fiftyone_sfam.pipeline.streaming import Explained, MapTask
from fiftyone_sfam.runs.blobs import BlobStore
from fiftyone_sfam.runs.run_table import shard_name

if TYPE_CHECKING:
    from fiftyone_sfam.network.embedder import EmbeddingModel


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


# Tasks that a worker has at a time: the next one waits there while it does the first.
_AHEAD = 2
# Workers that may die over the same shards before these are taken to be the cause.
_DEATHS = 3
_LONGEST_TASK = 8
# Settings of FiftyOne that a worker shares with this process.
_SHARED = ("FIFTYONE_DO_NOT_TRACK", "FIFTYONE_SFAM_MODELS", "FIFTYONE_MODEL_ZOO_DIR")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass
class _Place:
    """A worker, and what it has been given. A worker that dies is replaced in it.

    ``owned`` are the numbers for which the worker may have kept something, ``begun``
    what it does before all else.
    """

    actor: Any = None
    begun: list[ray.ObjectRef] = field(default_factory=list)
    given: dict[ray.ObjectRef, list[int]] = field(default_factory=dict)
    owned: list[int] = field(default_factory=list)


class RayEngine(Engine):
    """Does the work with the workers of a Ray cluster."""

    def __init__(self, work: Work, options: RayOptions) -> None:
        self._work, self._options = work, options
        self._store = BlobStore(work.dataset_id, work.uid)
        self._own_cluster = not ray.is_initialized()
        if self._own_cluster:
            _connect()
        self._places: list[_Place] = []
        self._task: ray.ObjectRef | None = None
        try:
            self._actor_type = self._make_actor_type()
            self._shared = (
                ray.put(work.items),
                work.model_name or ray.put(_on_cpu(work.model)),
                self._settings(),
            )
            self._places = [_Place() for _ in range(self._count())]
            for place in self._places:
                self._staff(place)
        except BaseException:
            self._close()
            raise

    def embed(self, numbers: Sequence[int]) -> Iterator[Embedded]:
        """Compute and store blocks of embeddings, in any order."""

        def stored(number: int) -> Embedded:
            return read_embedded(self._store, number)

        for place, block in self._share_out("embed", numbers, embedding_name, stored):
            if place is not None:
                place.owned.append(block.number)
            yield block

    def explain(self, task: MapTask, numbers: Sequence[int]) -> Iterator[Explained]:
        """Compute and store shards of maps, in any order.

        Shards whose images a worker has embedded are given to it first: it may have
        kept what they need.
        """
        self._task = ray.put(task)
        for place in self._places:
            place.begun.append(place.actor.take.remote(self._task))
        self._own_shards(task)

        def stored(number: int) -> Explained:
            return Explained(number, ())

        for _, one in self._share_out("explain", numbers, shard_name, stored):
            yield one

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait until nobody writes any more, and let the workers go."""
        self._close()

    # -- sharing out -------------------------------------------------------------------

    def _share_out(
        self,
        method: str,
        numbers: Sequence[int],
        name_of: Callable[[int], str],
        stored: Callable[[int], Any],
    ) -> Iterator[tuple[_Place | None, Any]]:
        """Have numbered pieces of work done; yield who did each, and its result."""
        waiting = _Waiting(numbers, self._places, self._task_length(len(numbers)))
        deaths: Counter[int] = Counter()
        while len(waiting) or any(place.given for place in self._places):
            for place in self._places:
                while len(place.given) < _AHEAD and len(waiting):
                    chosen = waiting.take(place)
                    reference = getattr(place.actor, method).remote(chosen)
                    place.given[reference] = chosen
            everything = [one for place in self._places for one in place.given]
            ready, _ = ray.wait(everything, num_returns=1)
            place = next(one for one in self._places if ready[0] in one.given)
            try:
                # What went wrong at first is the cause of what went wrong then.
                _, results = ray.get(place.begun), ray.get(ready[0])
            except RayTaskError as error:
                raise error.cause from error
            except RayActorError as error:
                left = self._bury(place, deaths, error)
                present = self._store.names()
                waiting.put_back([one for one in left if name_of(one) not in present])
                results = [stored(one) for one in left if name_of(one) in present]
                yield from ((None, result) for result in results)
                continue
            del place.given[ready[0]]
            yield from ((place, result) for result in results)

    def _bury(
        self, place: _Place, deaths: Counter[int], error: RayActorError
    ) -> list[int]:
        """Replace a dead worker; return the numbers that it still had to do."""
        left = [number for chosen in place.given.values() for number in chosen]
        # It died over the first; what lay behind is not to blame.
        first = next(iter(place.given.values()))
        deaths.update(first)
        worst = max(deaths[number] for number in first)
        place.given.clear()
        place.owned.clear()
        if worst >= _DEATHS:
            raise WorkerError(
                f"{worst} workers died one after the other over the {len(first)} "
                f"shards from number {first[0]} on. What is stored is kept, and the "
                f"same call goes on from there. Ray says: {error}"
            ) from error
        self._staff(place)
        return left

    def _staff(self, place: _Place) -> None:
        """Put a new worker in a place, and tell it what it has to know."""
        place.actor = self._actor_type.remote()
        place.begun = [place.actor.set_up.remote(*self._shared)]
        if self._task is not None:
            place.begun.append(place.actor.take.remote(self._task))

    def _task_length(self, numbers: int) -> int:
        """Choose how many pieces of work a worker is given at a time."""
        if self._options.shards_per_task is not None:
            return self._options.shards_per_task
        return min(_LONGEST_TASK, max(1, numbers // (100 * len(self._places))))

    def _own_shards(self, task: MapTask) -> None:
        """Turn the numbers of blocks that workers own into those of shards."""
        plan = task.plan
        if not plan.whole_blocks:
            return
        blocks = plan.order[plan.bounds[:-1]] // plan.shard_images
        shard_of = {int(block): shard for shard, block in enumerate(blocks)}
        for place in self._places:
            found = (shard_of.get(block) for block in sorted(place.owned))
            place.owned = [shard for shard in found if shard is not None]

    # -- the cluster -------------------------------------------------------------------

    def _count(self) -> int:
        """Choose how many workers there are to be; refuse if there is no room."""
        options = self._options
        needs = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker}
        has = ray.cluster_resources()
        room = min(
            int(has.get(what, 0) / each + 1e-6) for what, each in needs.items() if each
        )
        wanted = room if options.num_workers is None else options.num_workers
        if room < max(wanted, 1):
            asked = " and ".join(f"{each:g} {what}" for what, each in needs.items())
            raise DataError(
                f"the Ray cluster has room for {room} workers of {asked} each, not for "
                f"{max(wanted, 1)}; give fewer num_workers, cpus_per_worker or "
                "gpus_per_worker."
            )
        return wanted

    def _make_actor_type(self) -> Any:
        """Return Ray's class of the workers, which reach the driver's database."""
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
        """Return what every worker is told."""
        work, options = self._work, self._options
        threads = max(1, int(options.cpus_per_worker))
        return WorkerSettings(
            work.batch_size,
            threads if work.num_workers is None else max(0, work.num_workers),
            work.cache_bytes,
            "cuda" if options.gpus_per_worker else "cpu",
            work.dataset_id,
            work.uid,
            work.fingerprint,
        )

    def _close(self) -> None:
        """End the workers once they have done what they are at."""
        for place in self._places:
            given = list(place.given)
            for waiting in given[1:]:
                ray.cancel(waiting)
            if given:
                ray.wait(given, num_returns=len(given))
            if place.actor is not None:
                ray.kill(place.actor)
        self._places = []
        if self._own_cluster:
            ray.shutdown()


class _Waiting:
    """Numbers that nobody has been given yet, those first that a worker owns."""

    def __init__(
        self, numbers: Sequence[int], places: Sequence[_Place], length: int
    ) -> None:
        left = set(numbers)
        self._length = length
        self._of_place = {
            id(place): deque(one for one in place.owned if one in left)
            for place in places
        }
        owned = {one for queue in self._of_place.values() for one in queue}
        self._of_nobody = deque(one for one in numbers if one not in owned)

    def __len__(self) -> int:
        return len(self._of_nobody) + sum(map(len, self._of_place.values()))

    def put_back(self, numbers: Sequence[int]) -> None:
        """Have numbers done before all others that nobody owns."""
        self._of_nobody.extendleft(reversed(numbers))

    def take(self, place: _Place) -> list[int]:
        """Take the next numbers out: its own, nobody's, or else another worker's."""
        richest = max(self._of_place.values(), key=len)
        for queue in (self._of_place[id(place)], self._of_nobody, richest):
            if queue:
                count = min(self._length, len(queue))
                if queue is richest and queue is not self._of_place[id(place)]:
                    return [queue.pop() for _ in range(count)][::-1]
                return [queue.popleft() for _ in range(count)]
        return []


def _connect() -> None:
    """Connect to the cluster that the environment names, or start one here."""
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
    """Return the address of this process's database; refuse one others cannot reach."""
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
    """Return a model that can be sent to a machine without GPU."""
    if model.device.type == "cpu":
        return model
    moved = copy.deepcopy(model)
    moved.network.cpu()
    return moved
