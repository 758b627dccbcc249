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
from mergekit_nb.widgets.page import Page

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
        self.cancel.on_click(self._stopping)
        super().__init__([Page(), ipywidgets.HBox([self.bar, self.cancel]), self.text])
        self.add_class("mk-panel")
        heard_while_busy(self.cancel)
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
            self.text.add_class("mk-problem")
            self._end("danger", sentence(error))

    def _stopping(self, _: ipywidgets.Button) -> None:
        self._stop.set()
        self.cancel.description, self.cancel.disabled = "Cancelling …", True

    def _end(self, style: str, text: str) -> None:
        self.cancel.description, self.cancel.disabled = "Cancel", True
        self.text.add_class("mk-say")  # read out, where what changes all the time is not
        self.bar.bar_style, self.text.value = style, escape(text)

    def _show(self, done: int, total: int, _: str) -> None:
        now = time.monotonic()
        if self._seen and done < total and (now - self._seen[-1][0] < INTERVAL or done == self._seen[-1][1]):
            return
        if self._seen and not self._seen[0][1]:
            self._seen.clear()  # until then all began, and what a killed run had done was counted: neither is a rate
        self._seen.append((now, done))
        while now - self._seen[0][0] > WINDOW and len(self._seen) > 2:
            self._seen.popleft()
        self.bar.value = done / total if total else 1
        self.text.value = progress_text(done, total, rate(self._seen))


def heard_while_busy(button: ipywidgets.Button) -> None:
    """Let clicks come by the way the page chooses: JupyterLab's is open while the kernel runs a cell.

    ipykernel (7.4) otherwise leads them to where the button was made, and there they wait for the cell to end.
    """
    getattr(button.comm, "__dict__", {}).pop("_reply_subshell_id", None)


def sentence(error: BaseException) -> str:
    """What went wrong; with the kind of error where it is none that says all by itself."""
    return str(error) if isinstance(error, ValueError | TypeError | OSError) else f"{type(error).__name__}: {error}"


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
