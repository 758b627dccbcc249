"""TSV-Merge: each task's leading singular vectors, made orthogonal to those of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.spectra import beside, leading, product, thin_svd, whitened
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.methods.spectral import is_matrix, mean, precision
from mergekit_nb.weights.site import Site


def kept(shape: tuple[int, ...], tasks: int, rank: float | None) -> int:
    """How many singular vectors each task keeps of a matrix; at least one, so that no expert is lost in silence."""
    return max(min(shape) // tasks if rank is None else int(min(shape) * rank), 1)


@dataclass(frozen=True)
class Tsv(Method):
    """Per matrix and task keep the largest k singular values; put all tasks' U and V side by side; replace both by their
    polar factors ("whitening"); scale * U diag(s) V. Other tensors get the mean.

    Attributes:
        rank: share of the singular values a task keeps, k = int(rank * min(out, in)), at least 1; None is 1 / tasks, so
            that all together fit. 1 is the authors' "lossless" variant.
        whiten: False is the authors' "rank reduction" ablation, a plain sum of the truncated task vectors.
        scale: multiplies the merged vector; the paper recommends 1, the authors' code sweeps 0 … 3.

    Determined where no singular value at the cut equals the next (`generic`). The authors' code keeps no vector at all
    where there are more tasks than singular values, pads with columns of zeros, and has a variant by eigenvalues that
    divides by those zeros; here only the numerical rank counts, which agrees wherever theirs is determined.

    Source: Gargiulo et al. 2025, "Task Singular Vectors: Reducing Task Interference in Model Merging", CVPR,
    arXiv:2412.00081 (TSV-M), and the authors' `compute_and_sum_svd_mem_reduction`.
    """

    rank: Annotated[float, Knob(0, 1, "share of the singular values each task keeps")] | None = None
    whiten: bool = True
    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 1.0
    name: ClassVar[str] = "tsv"
    paper: ClassVar[str] = "Gargiulo et al. 2025, arXiv:2412.00081"
    generic: ClassVar[bool] = True
    commutes: ClassVar[str] = "axes"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        if not is_matrix(site):
            return self.scale * mean(taus)
        eps, count = precision(taus), kept(site.shape, len(taus), self.rank)
        factors = beside([leading(thin_svd(tau, eps), count) for tau in taus])
        merged = product(*(whitened(factors, eps) if self.whiten else factors))
        return self.scale * merged.to(taus.dtype)
