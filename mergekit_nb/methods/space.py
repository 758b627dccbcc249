"""Another basis to merge in: go there, let any method merge, come back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.methods.base import After, Chain, Made, Method, Post, Totals, check_method
from mergekit_nb.methods.spectral import is_matrix
from mergekit_nb.weights.site import Site

Entered = tuple[Float[Tensor, "task *inner"], Callable[[Tensor], Tensor]]  # task vectors there, and the way back

Pairs = list[tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]]]


class Space(Method):
    """A change of basis of matrices: alone with a method of its own inside, `space | method` with any other.

    Tensors that are no matrices are merged by the method inside as they are. What measures the whole model (TIES' trim)
    measures it there, as the authors of KnOTS do. What works on a merged vector (LiNeS) does so back outside.
    """

    generic: ClassVar[bool] = True
    stacks: ClassVar[int] = 24
    commutes: ClassVar[str] = "axes"

    @abstractmethod
    def enter(self, taus: Float[Tensor, "task out in"], factors: Pairs | None = None) -> Entered:
        """The task vectors in the new basis, and what leads back from it.

        Args:
            factors: every task vector's `out rank` and `rank in`, where the experts are adapters.
        """

    @property
    @abstractmethod
    def inside(self) -> Method:
        """The method that merges when none is named."""

    def rounds(self, dtype) -> int:
        return Within(self, self.inside).rounds(dtype)

    def measure(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> dict[str, Tensor]:
        return Within(self, self.inside).measure(site, taus, totals)

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        return Within(self, self.inside).merge(site, taus, totals)

    def __or__(self, other: Method) -> Chain:
        check_method(self, other)
        return After(self, other) if isinstance(other, Post) else Within(self, other)


@dataclass(frozen=True)
class Within(Chain):
    """`space | method`: all that the method sees are task vectors in the space's basis."""

    first: Space
    generic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.then.leaves != "one model":
            raise ValueError(f"{self.label}: {self.then.label} leaves patches, which have no way back from this basis")
        if getattr(self.then, "on", None) == "weights":
            raise ValueError(
                f"{self.label}: {self.then.label} looks at weights, which this basis has none of; on='task vectors'"
            )

    def rounds(self, dtype) -> int:
        return self.then.rounds(dtype)

    def measure(self, site: Site, taus: Tensor, totals: Totals) -> dict[str, Tensor]:
        there, inner, _ = self._entered(site, taus)
        return self.then.measure(there, inner, totals)

    def merge(self, site: Site, taus: Tensor, totals: Totals) -> Made:
        there, inner, back = self._entered(site, taus)
        return back(self.then.merge(there, inner, totals)).to(taus.dtype)

    def edit(self, site: Site, taus: Tensor, totals: Totals = ()) -> Tensor:
        raise TypeError(f"{self.label} makes one vector of many: it cannot edit task vectors")

    def __or__(self, other: Method) -> Chain:
        check_method(self, other)
        return After(self, other) if isinstance(other, Post) else Within(self.first, self.then | other)

    def _entered(self, site: Site, taus: Tensor) -> tuple[Site, Tensor, Callable[[Tensor], Tensor]]:
        if not is_matrix(site):
            return site, taus, lambda merged: merged
        inner, back = self.first.enter(taus, site.factors(taus.double()[0]))
        return replace(site, shape=tuple(inner.shape[1:]), source=None, experts=None), inner, back
