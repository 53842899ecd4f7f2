"""Where episodes are worked on besides the driver's threads: the backends of joblib that have processes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
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


class LostTask(NamedTuple):
    """A task of which its scheduler has given up that any worker ever ends it; by its assignment's number."""

    number: int
    error: BaseException


class Backend:
    """A backend of joblib whose workers are processes.

    Parameters
    ----------
    name : str
        As the config names it, or as joblib does.
    make : callable
        Makes joblib's backend, for one call of ``Parallel``.
    close : callable, optional
        Gives back what was opened for it.

    Raises
    ------
    ConfigError
        If it cannot be reached.
    """

    def __init__(self, name: str, make: Callable[[], Any], close: Callable[[], None] | None = None) -> None:
        self.name = name
        self._make = make
        self._close = close

    def parallel(self, episodes: int) -> Any:
        """Return a ``joblib.Parallel`` that has so many tasks under way and gives what each brings.

        A task whose worker is lost brings a `LostTask` where the backend can tell which it was, else it
        ends them all with an error of the backend's.
        """
        import joblib

        return joblib.Parallel(
            # With one, joblib's own pool would have the task done in this process.
            n_jobs=max(2, episodes),
            backend=self._make(),
            return_as="generator_unordered",
            # A scheduler that has more slots is given no more, and none of what it is given waits unseen.
            pre_dispatch=episodes,
            batch_size=1,
            # Nothing that is sent is large, and files beside it would have to be on all machines.
            max_nbytes=None,
        )

    def capacity(self, config: Config) -> Capacity:
        """Return what there is to work with, now."""
        client = getattr(self._make(), "client", None)
        if client is None or not hasattr(client, "scheduler_info"):
            episodes = config.summary_batch_size
            return Capacity(episodes, episodes, cores_here(), memory_mb(), 1, is_elastic=True)
        found = client.scheduler_info(n_workers=-1)["workers"].values()
        hosts: dict[str, float] = {}
        for worker in found:
            host = str(worker.get("host"))
            hosts[host] = hosts.get(host, 0.0) + float(worker.get("memory_limit") or 0) / 1e6
        slots = sum(worker["nthreads"] for worker in found)
        cores = slots if len(hosts) > 1 else min(slots, cores_here())
        return Capacity(len(found), slots, cores, sum(hosts.values()), len(hosts))

    def abandon(self) -> None:
        """End workers at once that this process has started, whatever they do."""
        if self.name == "processes":
            from joblib.externals.loky import get_reusable_executor  # type: ignore[import-untyped]

            get_reusable_executor().shutdown(wait=False, kill_workers=True)

    def close(self) -> None:
        """Give back what was opened for it."""
        if self._close is not None:
            self._close()


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
        return Backend(name, lambda: _joblib_backend("loky"))
    _import(name)
    if name == "dask":
        return _dask() if config.cluster_address is None else _dask_at(config.cluster_address)
    close = _start_ray(config.cluster_address)
    return Backend(name, lambda: _joblib_backend("ray"), close)


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
    from joblib.parallel import get_active_backend

    # Without a parallel_config it is what is preferred.
    backend: Any = get_active_backend(prefer="threads")[0]
    if getattr(backend, "supports_sharedmem", False) or not getattr(
        backend, "supports_return_generator", False
    ):
        return None
    name = type(backend).__name__
    if name == "DaskDistributedBackend":
        return Backend("dask", lambda: _dask_backend(backend.client, **backend.submit_kwargs))
    return Backend(name, lambda: backend)


def _joblib_backend(name: str) -> Any:
    import joblib

    with joblib.parallel_config(backend=name) as chosen:
        return chosen["backend"]


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
    return Backend("dask", lambda: _dask_backend(client))


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

    return Backend("dask", lambda: _dask_backend(client), client.close)


def _start_ray(address: str | None) -> Callable[[], None] | None:
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    if ray.is_initialized():
        return None
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"Ray cannot be reached: {error}", ["cluster_address"]) from None
    return ray.shutdown  # type: ignore[no-any-return]
