"""Work that must not hold up the page: one thread, the latest request wins, cancel is heard between two pieces of work."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from mergekit_nb.progress import Cancelled


def headless() -> bool:
    """True where nobody can click (a notebook executed by a program): work is then done at once, in the caller's thread."""
    return os.environ.get("MERGEKIT_NB_HEADLESS", "") not in ("", "0")


class Job:
    """Runs `work(request, cancel)`, an iterable of partial results, off the caller's thread.

    Args:
        work: yields partial results; may also raise Cancelled when `cancel` (a threading.Event) is set.
        show: called with a partial result, at most every `interval` seconds, and always with the last one.
        finish: called once per request that was not overtaken, with "done" or "cancelled", or with the exception raised.
        interval: seconds between two calls of `show`.
    """

    def __init__(
        self,
        work: Callable[[Any, threading.Event], Iterable[Any]],
        show: Callable[[Any], None],
        finish: Callable[[str | Exception], None],
        interval: float = 0.1,
    ):
        self._work, self._show, self._finish, self._interval = work, show, finish, interval
        self._lock = threading.Lock()
        self._mailbox: list[Any] = []
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def submit(self, request: Any) -> None:
        """Ask for `request`; what is under way is dropped in its favour."""
        if headless():
            self._run(request, threading.Event())
            return
        with self._lock:
            self._mailbox = [request]
            self._cancel.set()
            if not self.running:
                self._thread = threading.Thread(target=self._drain, name="mergekit-nb job", daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """Stop at the next piece of work and forget what waits. Returns at once."""
        with self._lock:
            self._mailbox = []
            self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until nothing is under way; False if `timeout` seconds were not enough."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return not self.running

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._mailbox:
                    self._thread = None
                    return
                request, self._cancel = self._mailbox.pop(), threading.Event()
            self._run(request, self._cancel)

    def _run(self, request: Any, cancel: threading.Event) -> None:
        outcome: str | Exception = "done"
        try:
            self._relay(self._work(request, cancel), cancel)
        except Cancelled:
            outcome = "cancelled"
        except Exception as error:  # handed on whole: the panel shows it
            outcome = error
        if not self._mailbox:
            self._finish("cancelled" if cancel.is_set() and outcome == "done" else outcome)

    def _relay(self, partials: Iterable[Any], cancel: threading.Event) -> None:
        shown, latest = 0.0, None
        for latest in partials:
            if cancel.is_set():
                return
            if time.monotonic() - shown >= self._interval:
                self._show(latest)
                shown, latest = time.monotonic(), None
        if latest is not None:
            self._show(latest)
