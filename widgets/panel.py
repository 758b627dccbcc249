"""What every panel has: a shared state, controls bound to it, errors shown in place, and a picture for previews."""

import base64
import io
import os
import traceback
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any

import ipywidgets
from PIL import Image

from mergekit_nb.widgets.lean import LeanFigure
from mergekit_nb.widgets.page import Page
from mergekit_nb.widgets.sheet import SCALE
from mergekit_nb.widgets.walk.state import StateError, WalkState

SHORT = {"description_width": "initial"}  # a label as wide as its word
INK = {False: "#424242", True: "#d6d6d6"}  # text of figures on a light and on a dark page


def strict() -> bool:
    """True in tests: a callback's exception is raised as well as shown."""
    return os.environ.get("MERGEKIT_NB_STRICT", "") not in ("", "0")


def unchanged(value: Any) -> Any:
    return value


class Panel(ipywidgets.VBox):
    """A column of controls and figures on one `WalkState`. Panels with the same state move together.

    Attributes:
        state: what is on show; read it and set it from any cell.
        error: the last exception of a callback, None when the last action went well.
    """

    def __init__(self, state: WalkState):
        self.state = state
        self.error: Exception | None = None
        self._following = False
        self.page = Page()
        self.problem = ipywidgets.HTML()
        self.problem.add_class("mk-problem")
        self.figures: list[LeanFigure] = []
        self.page.observe(self.guarded(self._restyle), "dark")
        super().__init__()
        self.add_class("mk-panel")

    def png(self) -> bytes:
        """The panel as it stands, as a picture: for previews that run no widgets."""
        raise NotImplementedError

    def guarded(self, action: Callable[..., Any]) -> Callable[..., Any]:
        """`action`, one at a time for all panels of the state, with its exception shown: nobody else would show it."""

        @wraps(action)
        def call(*args: Any) -> Any:
            with self.state.lock:
                try:
                    return action(*args)
                except Exception as error:
                    self.complain(error)
                    if strict():
                        raise

        return call

    def bind(
        self,
        control: ipywidgets.Widget,
        name: str,
        to_state: Callable[[Any], Any] = unchanged,
        to_control: Callable[[Any], Any] = unchanged,
        options: Callable[[], list] | None = None,
    ) -> None:
        """Tie a control's value to a trait of the state, both ways; `options()` are what it offers at that moment."""

        def from_page(change: dict) -> None:
            if not self._following:
                setattr(self.state, name, to_state(change["new"]))
                self.calm()

        def from_state(_: dict | None = None) -> None:
            self._following = True  # new options make a control jump to the first: nobody chose that
            try:
                if options is not None:
                    control.options = options()
                control.value = to_control(getattr(self.state, name))
            finally:
                self._following = False

        from_state()
        control.observe(self.guarded(from_page), "value")
        self.state.observe(self.guarded(from_state), name)

    def complain(self, error: Exception) -> None:
        """Show an exception in the panel; the traceback too, unless the reader's own entry was wrong."""
        self.error = error
        if isinstance(error, StateError):
            self.problem.value = escape(str(error))
            return
        trace = escape("".join(traceback.format_exception(error)))
        title = escape(f"{type(error).__name__}: {error}")
        self.problem.value = f"{title}<details><summary>traceback</summary><pre>{trace}</pre></details>"

    def calm(self) -> None:
        """Take the last problem away: what was asked for since went well."""
        self.error, self.problem.value = None, ""

    def adopt(self, figure: LeanFigure, name: str) -> LeanFigure:
        """Make a figure follow the page's theme, and findable by its CSS class."""
        figure.add_class(name)
        figure.update_layout(font_color=INK[self.page.dark])
        self.figures.append(figure)
        return figure

    def _restyle(self, change: dict) -> None:
        for figure in self.figures:
            figure.update_layout(font_color=INK[change["new"]])

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live panel, with its picture beside it for GitHub, mail, nbconvert and notebooks nobody has run."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, about = bundle if isinstance(bundle, tuple) else (bundle, {})
        picture = self.png()
        width = Image.open(io.BytesIO(picture)).width // SCALE
        return data | {"image/png": base64.b64encode(picture).decode()}, about | {"image/png": {"width": width}}


def html(text: str = "", *classes: str) -> ipywidgets.HTML:
    """A line of text with CSS classes."""
    line = ipywidgets.HTML(text)
    for name in classes:
        line.add_class(name)
    return line


def bar(*controls: ipywidgets.Widget) -> ipywidgets.HBox:
    """Controls side by side, wrapping where the page is narrow."""
    box = ipywidgets.HBox(controls)
    box.add_class("mk-bar")
    return box
