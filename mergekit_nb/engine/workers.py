"""Who does the work: threads of this process, or any `concurrent.futures.Executor`; a worker that dies costs a retry."""

from __future__ import annotations

import os
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")
LISTEN = 0.5  # seconds between two looks at whether to stop
RETRIES = 2  # times that work is handed out again whose worker died
DEAD = ("KilledWorker", "CommClosedError")  # what Dask calls a worker that died, wherever it is installed


def threads() -> int:
    """How many threads this process may keep busy."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked(executor: Executor | None) -> Executor | None:
    """The executor itself, once it is known to be one.

    Raises:
        TypeError: it is none.
    """
    if executor is None or isinstance(executor, Executor):
        return executor
    hint = "its .get_executor() is one" if hasattr(executor, "get_executor") else "None lets threads do it"
    raise TypeError(f"executor is a concurrent.futures.Executor; got {type(executor).__name__}; {hint}")


def by_threads(work: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    """`work` of every item, in order, by `count` threads; at most twice as many results wait to be taken."""
    if count == 1:
        yield from map(work, items)
        return
    rest = iter(items)
    with ThreadPoolExecutor(count, thread_name_prefix="mergekit-nb") as pool:
        waiting = deque(pool.submit(work, item) for item in islice(rest, 2 * count))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def by_executor(
    executor: Executor, work: Callable[[Item], Result], items: Iterable[Item], waiting: Callable[[], None] | None = None
) -> Iterator[Result]:
    """`work` of every item, in order. What is not yet begun is dropped when one fails, what is under way is awaited.

    `waiting` is called now and then while a result is awaited; what it raises ends the work.

    Where a worker died its work is handed out again; where the whole pool is broken, this process does the rest.
    """
    items = list(items)
    futures: list[Future | None] = [_submit(executor, work, item) for item in items]
    try:
        for place, item in enumerate(items):
            yield _result(executor, work, item, futures[place], waiting)
            futures[place] = None
    finally:
        begun = [future for future in futures if future is not None and not future.cancel()]
        wait(begun)


def _submit(executor: Executor, work: Callable[[Item], Result], item: Item) -> Future | None:
    try:
        return executor.submit(_call, work, item, uuid.uuid4().hex)
    except BrokenExecutor:
        return None


def _call(work: Callable[[Item], Result], item: Item, _: str) -> Result:
    """`work(item)`; the last argument makes every call another one, as Dask would answer the same one from memory."""
    return work(item)


def _result(
    executor: Executor,
    work: Callable[[Item], Result],
    item: Item,
    future: Future | None,
    waiting: Callable[[], None] | None,
) -> Result:
    for _ in range(RETRIES + 1):
        if future is None:
            break
        while waiting is not None and not wait([future], LISTEN).done:
            waiting()
        try:
            return future.result()
        except BrokenExecutor:
            future = _submit(executor, work, item)
        except Exception as error:
            if type(error).__name__ not in DEAD:
                raise
            future = _submit(executor, work, item)
    warnings.warn("a worker died, and the executor gives no other; this process does its work", stacklevel=3)
    return work(item)
