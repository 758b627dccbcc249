"""Progress and cancelling, one way everywhere: a bar, a callable, or silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm.auto import tqdm

Progress = bool | Callable[[int, int, str], None]


class CancelFlag(Protocol):
    """Anything that can be asked whether to stop: a `threading.Event` is one."""

    def is_set(self) -> bool: ...


class Tick(Protocol):
    """Says that `n` more steps are done; `before` where an earlier run had done them: that says nothing about the rate."""

    def __call__(self, n: int = 1, before: bool = False) -> None: ...


class Cancelled(RuntimeError):
    """The caller set the cancel flag; nothing was written."""


@contextmanager
def ticker(
    progress: Progress, total: int, text: str = "", cancel: CancelFlag | None = None, unit: str = "it"
) -> Iterator[Tick]:
    """Yield a `Tick`, which reports n more steps done of `total` and raises `Cancelled` once `cancel` is set.

    Args:
        progress: True draws a tqdm bar, False is silent, a callable receives (done, total, text).
        total: number of steps, in any unit that adds up.
        text: what is being done.
        cancel: asked at every tick.
        unit: of a step; a bar shows "B" as bytes done of all, their rate and the time left.

    Raises:
        TypeError: `cancel` cannot be asked.
    """
    if cancel is not None and not hasattr(cancel, "is_set"):
        raise TypeError(f"cancel is anything with is_set(), as a threading.Event; got {cancel!r}")
    bar = tqdm(total=total, desc=text, disable=progress is not True, unit=unit, unit_scale=unit == "B")
    done = 0

    def tick(n: int = 1, before: bool = False) -> None:
        nonlocal done
        if cancel is not None and cancel.is_set():
            raise Cancelled(
                f"{text or 'the work'} was cancelled after {done} of {total} {'bytes' if unit == 'B' else 'steps'}"
            )
        done += n
        if before and not bar.disable:  # tqdm's rate is of what came after `initial`
            bar.initial, bar.last_print_n, bar.n = bar.initial + n, bar.last_print_n + n, bar.n + n
        else:
            bar.update(n)
        if callable(progress):
            progress(done, total, text)

    with bar:
        yield tick
