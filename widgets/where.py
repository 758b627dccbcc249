"""The controls that say where the reader stands: layer, tensor, and which single weights are shown."""

from collections.abc import Mapping

import ipywidgets

from mergekit_nb.widgets.panel import SHORT, Panel
from mergekit_nb.widgets.walk.state import PICKS, StateError


class Where(Panel):
    """A panel with these controls, each tied to its trait of the state."""

    def step_and_layer(self, steps: tuple[str, ...]) -> tuple[ipywidgets.Widget, ...]:
        step = ipywidgets.ToggleButtons(options=[(f"{i} {name}", i) for i, name in enumerate(steps)])
        layer = ipywidgets.SelectionSlider(
            options=[(name, i) for i, name in enumerate(self.state.layers)],
            description="layer",
            style=SHORT,
            layout={"width": "360px"},
        )
        self.bind(step, "step")
        self.bind(layer, "layer")
        step.add_class("mk-step")
        layer.add_class("mk-layer")
        return step, layer

    def weights(self) -> tuple[ipywidgets.Widget, ...]:
        """Tensor, way to pick, how many, seed, typed positions."""
        tensor = ipywidgets.Dropdown(description="tensor", style=SHORT, layout={"width": "330px"})
        pick = ipywidgets.Dropdown(options=PICKS, description="weights", style=SHORT, layout={"width": "220px"})
        count = ipywidgets.IntSlider(min=4, max=64, description="how many", style=SHORT, layout={"width": "250px"})
        seed = ipywidgets.BoundedIntText(
            min=0, max=2**31 - 1, description="seed", style=SHORT, layout={"width": "130px"}
        )
        typed = ipywidgets.Text(description="positions", placeholder="3, 17, 42", continuous_update=False, style=SHORT)
        self.bind(tensor, "tensor", options=self._tensor_options)
        self.bind(pick, "pick")
        self.bind(count, "k")
        self.bind(seed, "seed")
        self.bind(typed, "indices", positions, lambda indices: ", ".join(map(str, indices)))
        for control, name in ((tensor, "tensor"), (pick, "pick"), (count, "k"), (seed, "seed"), (typed, "indices")):
            control.add_class(f"mk-{name}")
        self._only_where_used({"random": [seed, count], "typed": [typed]}, [seed, typed, count])
        return tensor, pick, count, seed, typed

    def _tensor_options(self) -> list[tuple[str, str]]:
        """The layer's tensors, without the part of the name they all share, with their shapes."""
        names = self.state.tensors
        parts = [name.split(".") for name in names]
        shared = next((i for i, words in enumerate(zip(*parts, strict=False)) if len(set(words)) > 1), 0)
        shapes = ("×".join(map(str, self.study.vectors.site(name).shape)) or "scalar" for name in names)
        return [
            (f"{'.'.join(words[shared:])}  ({shape})", name)
            for words, shape, name in zip(parts, shapes, names, strict=True)
        ]

    def _only_where_used(self, used: Mapping[str, list], controls: list[ipywidgets.Widget]) -> None:
        """Show those controls that mean something for the way weights are picked."""

        def offer(_: dict | None = None) -> None:
            wanted = used.get(self.state.pick, controls[-1:])
            for control in controls:
                control.layout.display = "" if control in wanted else "none"

        offer()
        self.state.observe(self.guarded(offer), "pick")


def positions(text: str) -> tuple[int, ...]:
    """The whole numbers in a line such as "3, 17 42"."""
    words = text.replace(",", " ").split()
    wrong = [word for word in words if not word.isdigit()]
    if wrong:
        raise StateError(f"positions are whole numbers such as 3, 17, 42; got {', '.join(wrong[:5])}")
    return tuple(map(int, words))
