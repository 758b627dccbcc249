"""Iso-CTS: common and task-specific directions, all equally strong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.spectra import beside, flattened, leading, product, thin_svd, whitened, without
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.methods.spectral import is_matrix, mean, precision
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class IsoCts(Method):
    """Per matrix with r = min(out, in): each task gets n = round((r - int(common * r)) / tasks) directions of its own, the
    other r - tasks * n are the leading ones of the sum. A task's own are the leading ones of its task vector with the
    common output directions projected out. All side by side, made orthonormal (polar factors), and every singular value
    set to the mean of them all; times scale. Other tensors get the mean.

    Attributes:
        common: share of the directions that are common; 1 is Iso-C.
        scale: multiplies the merged vector; the authors' code sweeps 0 … 3.

    Determined where no singular value at a cut equals the next (`generic`). With more tasks than the space has room for,
    there are no common directions (the authors' count goes below 0); only numerical ranks count.

    Source: Marczak et al. 2025, "No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces",
    arXiv:2502.04959, Iso-CTS, and the authors' `iso_cts`.
    """

    common: Annotated[float, Knob(0, 1, "share of the directions that are common")] = 0.8
    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 1.0
    name: ClassVar[str] = "iso_cts"
    paper: ClassVar[str] = "Marczak et al. 2025, arXiv:2502.04959"
    generic: ClassVar[bool] = True
    commutes: ClassVar[str] = "axes"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        if not is_matrix(site):
            return self.scale * mean(taus)
        eps, (shared, own) = precision(taus), self._counts(site.shape, len(taus))
        common = leading(thin_svd(ordered_sum(taus), eps), shared)
        special = [leading(_beyond(common[0], tau, eps), own) for tau in taus]
        merged = product(*flattened(whitened(beside([*special, common]), eps)))
        return self.scale * merged.to(taus.dtype)

    def _counts(self, shape: tuple[int, ...], tasks: int) -> tuple[int, int]:
        """How many common directions, and how many of each task's own."""
        size = min(shape)
        own = round((size - int(size * self.common)) / tasks)
        return max(size - tasks * own, 0), own


def _beyond(common: Float[Tensor, "out k"], tau: Float[Tensor, "out in"], eps: float):
    """The singular vectors of a task vector outside the common output directions; none where it lies within them."""
    rest = without(common, tau)
    # judged by the size of the whole, or what rounding leaves of a task within the common space would count as a direction
    if rest.norm() <= max(tau.shape) * eps * tau.norm():
        rest = rest.new_zeros(rest.shape)
    return thin_svd(rest, eps)
