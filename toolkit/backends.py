"""Where episodes are worked on besides the driver's threads: the backends of joblib that have processes."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from toolkit.config import Config
from toolkit.errors import ConfigError, MissingDependency
from toolkit.machine import cores_here, memory_mb

_PACKAGES = {"dask": "distributed", "ray": "ray"}
_EXTRAS = {"dask": "cluster"}


class Capacity(NamedTuple):
    """What a backend has to work with.

    Attributes
    ----------
    workers : int
        Processes.
    slots : int
        Episodes that they take at a time, all together.
    cores : int
        Of their machines, all together.
    memory_mb : float
        Likewise, in MB (10^6 bytes).
    machines : int
    is_elastic : bool
        Whether as many workers are started as episodes are to be worked on at a time.
    """

    workers: int
    slots: int
    cores: int
    memory_mb: float
    machines: int
    is_elastic: bool = False

    @property
    def neighbours(self) -> int:
        """Workers on one machine, on the fullest if they are spread evenly."""
        return max(1, math.ceil(self.workers / max(1, self.machines)))


Task = tuple[Any, ...]
"""A function and what it is called with."""


class LostTask(NamedTuple):
    """A task of which its scheduler has given up that any worker ever ends it; by its assignment's number."""

    number: int
    error: BaseException


class Backend:
    """Processes that joblib reaches.

    Parameters
    ----------
    name : str
        As the config names it, or as joblib does.
    make : callable
        Makes joblib's backend, for one call of ``Parallel``.
    """

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self.name = name
        self._make = make

    def run(self, tasks: Iterable[Task], at_once: int) -> Iterator[Any]:
        """Do tasks, so many at once, and give what each brings as it ends.

        A task whose worker is lost brings a `LostTask` where the backend can tell which it was, else it
        ends them all with an error of the backend's.
        """
        import joblib

        pool: dict[str, Any] = {"initializer": ignore_interrupts} if self.name == "processes" else {}
        parallel = joblib.Parallel(
            # With one, joblib's own pool would have the task done in this process.
            n_jobs=max(2, at_once),
            backend=self._make(),
            return_as="generator_unordered",
            # A scheduler that has more slots is given no more.
            pre_dispatch=at_once,
            batch_size=1,
            # Nothing that is sent is large, and files beside it would have to be on all machines.
            max_nbytes=None,
            **pool,
        )
        given: Any = parallel(joblib.delayed(function)(*told) for function, *told in tasks)
        return iter(given)

    def capacity(self, config: Config) -> Capacity:
        """Return what there is to work with, now."""
        episodes = config.summary_batch_size
        return Capacity(episodes, episodes, cores_here(), memory_mb(), 1, is_elastic=True)

    def abandon(self) -> None:
        """End workers at once that this process has started, whatever they do."""
        if self.name == "processes":
            from joblib.externals.loky import get_reusable_executor  # type: ignore[import-untyped]

            # As it is: asked for with other arguments it would be made anew, once all work is over.
            get_reusable_executor(reuse=True, kill_workers=True).shutdown(wait=False, kill_workers=True)

    def close(self) -> None:
        """Give back what was opened for it."""


class DaskCluster(Backend):
    """The workers of a Dask client.

    Parameters
    ----------
    client : distributed.Client
    is_own : bool
        Whether it is closed at the end.
    **submit_kwargs
        What joblib's backend gives with each task, such as ``resources``.
    """

    def __init__(self, client: Any, *, is_own: bool = False, **submit_kwargs: Any) -> None:
        super().__init__("dask", lambda: _dask_backend(client, **submit_kwargs))
        self._client = client
        self._is_own = is_own

    def capacity(self, config: Config) -> Capacity:
        """Return what there is to work with, now."""
        found = self._client.scheduler_info(n_workers=-1)["workers"].values()
        hosts = {str(worker.get("host")) for worker in found}
        slots = sum(worker["nthreads"] for worker in found)
        # Dask knows threads, not cores: on this machine there may be fewer.
        cores = slots if len(hosts) > 1 else min(slots, cores_here())
        memory_b = sum(float(worker.get("memory_limit") or 0) for worker in found)
        return Capacity(len(found), slots, cores, memory_b / 1e6, len(hosts))

    def close(self) -> None:
        """Close the client, if it was made for this."""
        if self._is_own:
            self._client.close()


class RayCluster(Backend):
    """A Ray cluster; each task waits in a thread of this process.

    Ray's own backend of joblib gives no result before the last one is there.

    Parameters
    ----------
    is_own : bool
        Whether it is left at the end.
    """

    def __init__(self, *, is_own: bool) -> None:
        super().__init__("ray", lambda: "threading")
        self._is_own = is_own

    def run(self, tasks: Iterable[Task], at_once: int) -> Iterator[Any]:
        """Do tasks; see `Backend.run`."""
        import ray

        remote = ray.remote(_call)

        def wait(*task: Any) -> Any:
            try:
                return ray.get(remote.remote(*task))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                return LostTask(getattr(task[-1], "number", -1), error)

        return super().run(((wait, *task) for task in tasks), at_once)

    def capacity(self, config: Config) -> Capacity:
        """Return what there is to work with, now."""
        import ray

        has = ray.cluster_resources()
        cores = int(has.get("CPU", 0))
        return Capacity(cores, cores, cores, has.get("memory", 0.0) / 1e6, len(ray.nodes()))

    def close(self) -> None:
        """Leave the cluster, if it was joined for this."""
        if self._is_own:
            import ray

            ray.shutdown()


def find_backend(config: Config) -> Backend | None:
    """Return the backend that a config names, or joblib's active one; None: threads of this process.

    To be called in the thread whose ``joblib.parallel_config`` counts.

    Raises
    ------
    ConfigError
        If it cannot be reached.
    MissingDependency
        If its package is not installed.
    """
    name = config.episode_backend
    if name == "threads":
        return None
    if name is None:
        return _active()
    if name == "processes":
        return Backend(name, lambda: "loky")
    _import(name)
    if name == "ray":
        return _ray(config.cluster_address)
    return _dask() if config.cluster_address is None else _dask_at(config.cluster_address)


def _import(name: str) -> None:
    from importlib import import_module

    package = _PACKAGES[name]
    try:
        import_module(package)
    except ImportError as error:
        raise MissingDependency(f"episode_backend={name!r}", package, _EXTRAS.get(name)) from error


def _active() -> Backend | None:
    if "joblib" not in sys.modules:  # Then nobody has said anything to it.
        return None
    # The package, not its module: that waits for a thread that is at importing it, as another run's may be.
    import joblib

    # Without a parallel_config it is what is preferred.
    backend: Any = joblib.parallel.get_active_backend(prefer="threads")[0]
    if getattr(backend, "supports_sharedmem", False) or not getattr(
        backend, "supports_return_generator", False
    ):
        return None
    name = type(backend).__name__
    if name == "DaskDistributedBackend":
        return DaskCluster(backend.client, **backend.submit_kwargs)
    if name == "LokyBackend":
        return Backend("processes", lambda: "loky")
    return Backend(name, lambda: backend)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes: the driver says what is to be done."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _dask() -> Backend:
    """Return the backend of the client that is open."""
    from distributed import get_client

    try:
        client = get_client()
    except ValueError:
        raise ConfigError(
            "episode_backend='dask' has no client to work through: make one first, such as "
            'distributed.Client("tls://HOST:8786"), or set cluster_address',
            ["episode_backend"],
        ) from None
    return DaskCluster(client)


def _dask_backend(client: Any, **submit_kwargs: Any) -> Any:
    from joblib._dask import DaskDistributedBackend

    class DaskBackend(DaskDistributedBackend):
        """Joblib's own, which waits for ever for a task that Dask has given up."""

        def submit(self, func: Any, callback: Any = None) -> Any:
            task: Any = super().submit(func, callback)
            ((_, arguments, _),) = func.items
            number = getattr(arguments[-1], "number", -1)

            def tell(done: Any) -> None:
                if (error := done.exception()) is not None:
                    callback(LostTask(number, error))

            task.add_done_callback(tell)
            return task

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, BaseException):  # The scheduler is gone, and with it all that it was given.
                raise out
            return [out] if isinstance(out, LostTask) else super().retrieve_result_callback(out)

    return DaskBackend(client=client, **submit_kwargs)


def _dask_at(address: str) -> Backend:
    from distributed import Client

    try:
        # Certificates come from Dask's own settings (distributed.comm.tls).
        client = Client(address, set_as_default=False, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"cluster_address={address!r} cannot be reached: {error}; is the scheduler there, and if it asks "
            "for certificates, are they in Dask's configuration (distributed.comm.tls)?",
            ["cluster_address"],
        ) from None

    return DaskCluster(client, is_own=True)


def _ray(address: str | None) -> Backend:
    import ray

    if ray.is_initialized():
        return RayCluster(is_own=False)
    if address is None:
        # One that Ray starts by itself listens on all addresses, which is for the user to want.
        raise ConfigError(
            "episode_backend='ray' has no cluster to work on: call ray.init() first, or set cluster_address",
            ["episode_backend"],
        )
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cluster_address={address!r} cannot be reached: {error}", ["cluster_address"]
        ) from None
    return RayCluster(is_own=True)


def _call(function: Callable[..., Any], *told: Any) -> Any:
    return function(*told)
