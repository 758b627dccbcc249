"""A merge under way: bytes done of all, their rate, the time left, and a Cancel that leaves nothing half written."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from html import escape
from typing import Any

import ipywidgets
from tqdm import tqdm

from mergekit_nb.engine.budget import said
from mergekit_nb.engine.merge import merge
from mergekit_nb.methods import Method
from mergekit_nb.progress import Cancelled
from mergekit_nb.weights.merged import Merged
from mergekit_nb.widgets.job import headless

INTERVAL = 0.2  # seconds between two looks: a page cannot draw each of a thousand pieces
WINDOW = 10.0  # seconds the rate is taken over


class Merging(ipywidgets.VBox):
    """Merges off the main thread, so that the notebook stays usable, and shows how far it is.

    Args:
        method, base, experts, options: as in `mergekit_nb.merge`, `out` included. It begins at once.

    Attributes:
        merged: what came of it; None before, and where it failed or was cancelled.
        error: what it failed with.
    """

    def __init__(self, method: str | Method, base: Any, experts: Mapping[str, Any], **options: Any):
        self.merged: Merged | None = None
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._seen: deque[tuple[float, int]] = deque()
        self.bar = ipywidgets.FloatProgress(value=0, min=0, max=1, description=label(method))
        self.bar.style.description_width = "initial"
        self.text = ipywidgets.HTML("reading headers")
        self.cancel = ipywidgets.Button(description="Cancel", tooltip="Stop, and leave nothing half written")
        self.cancel.on_click(lambda _: self._stop.set())
        super().__init__([ipywidgets.HBox([self.bar, self.cancel]), self.text])
        work = (method, base, experts, options)
        self._thread = threading.Thread(target=self._run, args=work, name="mergekit-nb merging", daemon=True)
        self._thread.start()
        if headless():
            self.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is over; False if `timeout` seconds were not enough."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self, method: str | Method, base: Any, experts: Mapping[str, Any], options: dict[str, Any]) -> None:
        try:
            self.merged = merge(method, base, experts, progress=self._show, cancel=self._stop, **options)
            self._end("success", f"done: {self.merged.method} of {', '.join(self.merged.tasks)}")
        except Cancelled:
            self._end("warning", "cancelled: nothing was written")
        except BaseException as error:  # nobody above this thread would show it
            self.error = error
            self._end("danger", f"{type(error).__name__}: {error}")

    def _end(self, style: str, text: str) -> None:
        self.bar.bar_style, self.text.value, self.cancel.disabled = style, escape(text), True

    def _show(self, done: int, total: int, _: str) -> None:
        now = time.monotonic()
        if self._seen and now - self._seen[-1][0] < INTERVAL and done < total:
            return
        self._seen.append((now, done))
        while now - self._seen[0][0] > WINDOW and len(self._seen) > 2:
            self._seen.popleft()
        self.bar.value = done / total if total else 1
        self.text.value = progress_text(done, total, rate(self._seen))


def label(method: str | Method) -> str:
    """The method's name."""
    return method if isinstance(method, str) else method.label


def rate(seen: deque[tuple[float, int]]) -> float:
    """Bytes a second over the moments seen, 0 where nothing can be said."""
    (first, before), (last, after) = seen[0], seen[-1]
    return (after - before) / (last - first) if last > first else 0.0


def progress_text(done: int, total: int, speed: float) -> str:
    """ "1.2 GB of 3.5 GB · 410 MB/s · 00:06 left"."""
    parts = [f"{said(done)} of {said(total)}"]
    if speed > 0:
        parts += [f"{said(speed)}/s", f"{tqdm.format_interval((total - done) / speed)} left"]
    return " · ".join(parts)
