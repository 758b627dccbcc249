"""One opened notebook, driven as a reader would drive it, and watched for what must not happen."""

from __future__ import annotations

import ast
import json
from typing import Any

from tests.browser.lab_server import Lab

SECOND = 1000  # Playwright counts in milliseconds
KERNEL_IDLE = """() => {
  const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
  return kernel && kernel.status === "idle" && kernel.connectionStatus === "connected";
}"""
DRAWN = """selector => { const plot = document.querySelector(selector); return plot && plot._fullLayout && plot.querySelector(".main-svg"); }"""
ERRORS = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'], .jp-RenderedText[data-mime-type='application/vnd.jupyter.error']"
PROBLEM = ".mk-problem .widget-html-content"


class NotebookPage:
    """A page with one notebook in JupyterLab.

    Attributes:
        outside: addresses outside this machine that were asked for.
        crashes: errors that no script on the page caught.
        begun: what the walk's figures showed when all cells had run.
    """

    def __init__(self, page: Any, lab: Lab):
        self.page, self.lab = page, lab
        self.outside: list[str] = []
        self.crashes: list[str] = []
        self.begun: list[dict[str, Any]] = []
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda socket: self._note(socket.url))
        page.on("pageerror", lambda error: self.crashes.append(str(error)))

    def _note(self, url: str) -> None:
        own = ("data:", "blob:", self.lab.base, self.lab.base.replace("http", "ws"))
        if not url.startswith(own):
            self.outside.append(url)

    def open(self, notebook: str, timeout: float = 90) -> NotebookPage:
        """Open it with the file browser folded away and the kernel ready."""
        self.page.goto(self.lab.url(notebook), timeout=timeout * SECOND)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=timeout * SECOND)
        self.page.wait_for_function(KERNEL_IDLE, timeout=timeout * SECOND)
        self.page.evaluate("() => jupyterapp.shell.collapseLeft()")
        return self

    def value(self, expression: str) -> Any:
        """What an expression is in the notebook's kernel; numbers, texts and lists of them."""
        ask = """async code => { const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const future = kernel.requestExecute({code: "import json", user_expressions: {value: code}});
            return (await future.done).content.user_expressions.value.data["text/plain"] }"""
        return json.loads(ast.literal_eval(self.page.evaluate(ask, f"json.dumps({expression})")))

    def theme(self, theme: str) -> None:
        """Switch JupyterLab to "light" or "dark"."""
        name = f"JupyterLab {theme.title()}"
        self.page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{str(theme == 'light').lower()}'")

    def python(self, code: str) -> None:
        """Run code in the notebook's kernel, as a further cell would."""
        done = """async code => { const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            return (await kernel.requestExecute({code}).done).content }"""
        reply = self.page.evaluate(done, code)
        assert reply["status"] == "ok", reply

    def run_all(self, timeout: float = 180) -> NotebookPage:
        """Run every cell; fails with what a cell raised."""
        self.page.set_default_timeout(timeout * SECOND)
        self.page.evaluate("async () => { await jupyterapp.commands.execute('notebook:run-all-cells') }")
        self.page.set_default_timeout(60 * SECOND)
        raised = self.page.locator(ERRORS).all_inner_texts()
        assert not raised, "\n".join(raised)
        return self

    def plot(self, css: str) -> Any:
        """The plotly graph inside, or at, the element that `css` finds, once it is drawn."""
        selector = f"{css}.js-plotly-plot, {css} .js-plotly-plot"
        self.page.wait_for_function(DRAWN, arg=selector, timeout=120 * SECOND)  # a busy machine takes its time
        return self.page.query_selector(selector)

    def traces(self, css: str) -> list[dict[str, Any]]:
        """What the figure draws: for each trace its type, name, y and z."""
        read = """plot => plot._fullData.map(t => ({type: t.type, name: t.name, visible: t.visible,
            y: t.y ? Array.from(t.y) : null, z: t.z ? Array.from(t.z, row => Array.from(row)) : null}))"""
        return self.plot(css).evaluate(read)

    def slide(self, css: str, steps: int) -> None:
        """Move a slider by the arrow keys."""
        self.page.locator(f"{css} .noUi-handle").first.focus()
        for _ in range(abs(steps)):
            self.page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")

    def drag(self, css: str, share: float) -> None:
        """Drag a slider's handle with the mouse to a share of its track."""
        handle = self.page.locator(f"{css} .noUi-handle").first
        handle.scroll_into_view_if_needed()
        box, track = handle.bounding_box(), self.page.locator(f"{css} .noUi-target").first.bounding_box()
        y, mouse = box["y"] + box["height"] / 2, self.page.mouse
        mouse.move(box["x"] + box["width"] / 2, y)
        mouse.down()
        mouse.move(track["x"] + share * track["width"], y, steps=12)
        mouse.up()

    def problems(self) -> list[str]:
        """What the panels complain about."""
        return [text for text in self.page.locator(PROBLEM).all_inner_texts() if text.strip()]
