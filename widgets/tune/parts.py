"""A method taken apart into what stands before, in and after it: `before | main | after`."""

from typing import NamedTuple

from mergekit_nb.methods import METHODS, Chain, Method
from mergekit_nb.methods.base import After, Post
from mergekit_nb.methods.space import Space
from mergekit_nb.widgets.walk.state import StateError


class Parts(NamedTuple):
    """What merges, and what may stand on either side of it.

    Attributes:
        before: edits the task vectors, or is a space to merge in; None for neither.
        after: works on the merged vector; None for nothing.
    """

    before: Method | None
    main: Method
    after: Method | None

    def joined(self) -> Method:
        """The whole as one method.

        Raises:
            TypeError: the parts do not go together.
        """
        whole = self.main if self.before is None else self.before | self.main
        return whole if self.after is None else whole | self.after


def parts(method: Method) -> Parts:
    """The parts of a method.

    Raises:
        StateError: it has more than three.
    """
    before, main, after = None, method, None
    if isinstance(main, After):
        main, after = main.first, main.then
    if isinstance(main, Chain) and not isinstance(main, After):
        before, main = main.first, main.then
    if isinstance(main, After) and after is None:
        main, after = main.first, main.then
    if any(isinstance(part, Chain) for part in (before, main)):
        raise StateError(f"Tune has room for one method before and one after the one that merges; got {method.label}")
    return Parts(before, main, after)


def befores() -> list[str]:
    """Methods that may stand on the left of `|`."""
    return [name for name, cls in METHODS.items() if cls.edit is not Method.edit or issubclass(cls, Space)]


def afters() -> list[str]:
    """Methods that work on what another merged."""
    return [name for name, cls in METHODS.items() if issubclass(cls, Post)]


def written(method: Method) -> str:
    """The method as one would type it, defaults left out: `Dare(drop=0.5) | Ties()`."""
    if isinstance(method, Chain):
        return f"{written(method.first)} | {written(method.then)}"
    default = type(method)().options()
    changed = {name: value for name, value in method.options().items() if value != default[name]}
    values = (f"{name}={tuple(v) if isinstance(v, list) else v!r}" for name, v in changed.items())
    return f"{type(method).__name__}({', '.join(values)})"
