"""What the panel says, with the numbers on show."""

from collections.abc import Sequence
from html import escape

from torch import Tensor

from mergekit_nb.maths.matching import Zip
from mergekit_nb.tradeoff import METHODS
from mergekit_nb.widgets.zipwalk.compute import Point
from mergekit_nb.widgets.zipwalk.matrix import strength
from mergekit_nb.widgets.zipwalk.state import ALL, NOTHING, Key


def code(key: Key) -> str:
    """How one would make the model on show."""
    if key.boundary == NOTHING:
        return "networks"
    knobs = "" if key.alpha is None else f", alpha={key.alpha:g}, beta={key.beta:g}"
    matching = "" if key.method == "zip" else f', matching="{METHODS[key.method]}"'
    stop = "" if key.boundary == ALL else f', stop_at="{key.boundary}"'
    return f"mk.zipit(networks, batches{knobs}{matching}{stop})"


def measured_text(key: Key, point: Point | None, ensemble: Point | None, split: str) -> str:
    """The model on show and what it is worth (HTML)."""
    said = f"<code>{escape(code(key))}</code>"
    if point is None:
        return f"{said} is not measured yet."
    share, low, high = point.share()
    each = ", ".join(f"{escape(task)} {point.share(task)[0]:.1%}" for task in point.table["task"][1:])
    n = int(point.table["n"].iloc[0])
    cost = f"{point.flops / 1e6:.2f} million operations for a picture"
    if ensemble is not None and key.boundary != NOTHING:
        cost += f", {point.flops / ensemble.flops:.0%} of the ensemble's"
    return (
        f"{said} is right on <b>{share:.1%}</b> ({low:.1%} to {high:.1%}) of {n} {split} pictures where nobody tells the "
        f"task; where it is told, on {each}. It takes {cost}."
    )


def layer_text(layer: str, method: str, found: Zip, boundary: str, layers: Sequence[str]) -> str:
    """How a layer's features are matched, and whether the model on show does so (HTML)."""
    sizes = [len(group) for group in found.groups]
    single, largest = sizes.count(1), max(sizes)
    features = len(found.unmerge)
    said = f"<i>{escape(layer)}</i>: {features} features of {found.models} networks become {len(sizes)}"
    said += f"; {found.within()} share with a feature of their own network, {single} stay alone, the largest group has {largest}."
    zipped = layers if boundary == ALL else () if boundary == NOTHING else layers[: layers.index(boundary) + 1]
    return said if layer in zipped else f"{said} <b>Beyond the boundary: not {VERB[method]} in the model on show.</b>"


VERB = {"zip": "zipped", "permute": "permuted", "average": "averaged"}


def group_label(correlation: Tensor, group: Sequence[int], names: Sequence[str]) -> str:
    """A group by its features and how alike they are."""
    said, alike = " + ".join(names[feature] for feature in group), strength(correlation, group)
    return f"{said} alone" if alike is None else f"{alike:.2f}  {said}"


def group_text(correlation: Tensor, group: Sequence[int], names: Sequence[str]) -> str:
    """A group in a sentence (HTML)."""
    alike = strength(correlation, group)
    if alike is None:
        return f"<b>{escape(names[group[0]])}</b> stays alone."
    owners = {names[feature].rsplit(" ", 1)[0] for feature in group}
    who = "of one network" if len(owners) == 1 else f"of {len(owners)} networks"
    return f"<b>{len(group)} features {who}</b> become one; their correlation is {alike:.2f}{' on average' if len(group) > 2 else ''}."
