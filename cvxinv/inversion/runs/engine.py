"""Who computes the chunks of a run: this process, one after the other, or the workers of a cluster of Dask.

On a cluster a chunk goes to a worker with all that it needs, and its answer comes back; the files are written here, by one
process. What a worker was at when it was killed is computed again by another one. Every worker computes with as many threads
as this process, so that the numbers are the same bits wherever they come from (set OMP_NUM_THREADS=1, or
torch.set_num_threads(1), where workers share a machine).
"""

import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...errors import BackendNotInstalledError
from ...generator.abstract import AbstractGenerator
from ...inputs import describe
from ...surroundings import undisturbed
from ..progress import Progress, bar
from ..result import Inversion
from ..steps.starts import Starts
from .digest import digest
from .folder import Layout
from .watch import Watch
from .work import Chunk, answer

_RETRIES = 5  # times that a chunk is computed again where its worker was lost
_AHEAD = 2  # chunks per worker that wait or are computed
_SECONDS = 60  # that a scheduler and a first worker may take to answer

Result = tuple[int, Inversion, bool]  # which chunk, its answer, and whether its time was over before it was done


@dataclass
class Work:
    """Chunks to compute. chunk: makes the signals from one position to another; cluster: None, or as in `invert`."""

    generator: AbstractGenerator
    seed: int
    layout: Layout
    chunk: Callable[[int, int], Chunk]
    cluster: object = None

    def results(self, todo: Iterable[int], watch: Watch, shown: Any) -> Iterator[Result]:
        """The answers to chunks as they come."""
        return self._here(todo, watch, shown) if self.cluster is None else self._there(todo, watch, shown)

    def go(
        self,
        todo: Iterable[int],
        watch: Watch,
        name: str,
        progress: bool | None,
        keep: Callable[[int, Inversion, bool], None],
    ) -> None:
        """Answer chunks until the run is stopped; keep: takes a chunk's number, answer, and whether it is unfinished."""
        with bar(self.layout.signals, name, progress) as shown:
            for k, part, cut in self.results(todo, watch, shown):
                keep(k, part, cut and watch.over)
                watch.told(k, part, self.layout)
                if watch.stopped:
                    return

    def _here(self, todo: Iterable[int], watch: Watch, shown: Any) -> Iterator[Result]:
        starts = Starts(self.generator, self.seed)
        for k in todo:
            start, stop = self.layout.span(k)
            progress = watch.progress(shown, start, stop - start)
            part = answer(self.chunk(start, stop), starts, progress)
            progress.reach(1.0)
            yield k, part, progress.cut

    def _there(self, todo: Iterable[int], watch: Watch, shown: Any) -> Iterator[Result]:
        from distributed import as_completed
        from distributed.protocol.pickle import dumps  # classes of a script or a notebook too

        token, threads, run, left = digest(self.generator), torch.get_num_threads(), uuid.uuid4().hex, iter(todo)
        with connected(self.cluster) as client:
            running, ahead = as_completed(), _AHEAD * max(1, len(client.nthreads()))

            def more() -> bool:
                for k in left:
                    start, stop = self.layout.span(k)
                    payload = dumps(self.chunk(start, stop))
                    ends = watch.deadline(stop - start)
                    key = f"cvxinv-{run}-{k}"
                    running.add(
                        client.submit(compute, payload, token, threads, ends, k, key=key, retries=_RETRIES, pure=False)
                    )
                    return True
                return False

            while ahead > 0 and more():
                ahead -= 1
            for future in running:
                k, part, cut = future.result()
                more()
                Progress(shown, watch.done, len(part)).reach(1.0)
                yield k, part, cut


_known: dict[str, AbstractGenerator] = {}  # of a worker: generators, with what was worked out from them once


@undisturbed
def compute(payload: bytes, token: str, threads: int, deadline: float | None, k: int) -> Result:
    """What a worker does with chunk k: its answer, without the layer problems."""
    torch.set_num_threads(threads)
    chunk: Chunk = pickle.loads(payload)
    generator = _known.setdefault(token, chunk.task.generator)
    chunk, progress = replace(chunk, task=replace(chunk.task, generator=generator)), Progress(deadline=deadline)
    part = answer(chunk, Starts(generator, chunk.seed), progress)
    bare = tuple(replace(report, problem=None, solution=replace(report.solution, problem=None)) for report in part.layers)
    return k, replace(part, layers=bare), progress.cut


@contextmanager
def with_threads(wanted: int | None) -> Iterator[None]:
    """With as many threads as a run began with, where that is known: their number decides the last bits."""
    before = torch.get_num_threads()
    if wanted in (None, before):
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_cluster(cluster: object) -> None:
    """Raises TypeError, ValueError or BackendNotInstalledError for what is no cluster, before anything is computed."""
    if cluster is None:
        return
    count = isinstance(cluster, int) and not isinstance(cluster, bool)
    if (count and cluster < 1) or (isinstance(cluster, str) and cluster != "local" and "://" not in cluster):  # type: ignore[operator]
        raise ValueError(
            f'expected cluster as "local", a number of workers, or an address such as "tcp://host:8786", got {cluster!r}; '
            "leave it out to compute in this process"
        )
    try:
        import distributed
    except ImportError as error:
        raise BackendNotInstalledError(
            'expected Dask for cluster=, got none; install it with pip install "dask[distributed]"'
        ) from error
    if not count and not isinstance(cluster, (str, distributed.Client)):
        raise TypeError(
            f'expected cluster as "local", a number of workers, an address or a distributed.Client, got '
            f"{describe(cluster)}; pass e.g. cluster=2"
        )


@contextmanager
def connected(cluster: Any) -> Iterator[Any]:
    """A client of the cluster that is meant; a local one lasts as long as the run."""
    import dask
    from distributed import Client, LocalCluster

    if isinstance(cluster, Client):
        yield cluster
        return
    if isinstance(cluster, str) and cluster != "local":
        try:
            with Client(cluster, timeout=_SECONDS) as client:
                client.wait_for_workers(1, timeout=_SECONDS)
                yield client
        except OSError as error:
            raise OSError(
                f"expected a scheduler of Dask with workers at {cluster}, got {error}; start one, or pass cluster=2"
            ) from error
        return
    workers = None if cluster == "local" else cluster
    # the variables of this process as they are: Dask would set the threads of BLAS otherwise than here
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}, "distributed.scheduler.allowed-failures": _RETRIES}):
        with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as local:
            with Client(local, timeout=_SECONDS) as client:
                yield client
