"""TSV-Compress: each task's leading singular vectors, kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.spectra import leading, thin_svd
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.methods.spectral import is_matrix, precision
from mergekit_nb.methods.tsv import kept
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class TsvCompress(Method):
    """Nothing is merged: per matrix each task keeps the k largest singular values of its own task vector, as two factors
    of k columns and rows; all other tensors are each task's own. `merged.weights(task)` multiplies them out.

    Attributes:
        rank: share of the singular values a task keeps, k = int(rank * min(out, in)), at least 1; None is 1 / tasks, so
            that all together take the place of about one model.

    Determined where no singular value at the cut equals the next (`generic`). The factors are stored in the base's dtype,
    the square root of the singular values on either side.

    Source: Gargiulo et al. 2025, "Task Singular Vectors: Reducing Task Interference in Model Merging", CVPR,
    arXiv:2412.00081 (TSV-C), and the authors' `compute_svd_and_compress`.
    """

    rank: Annotated[float, Knob(0, 1, "share of the singular values each task keeps")] | None = None
    name: ClassVar[str] = "tsv_compress"
    paper: ClassVar[str] = "Gargiulo et al. 2025, arXiv:2412.00081"
    leaves: ClassVar[str] = "low-rank patches"
    generic: ClassVar[bool] = True
    commutes: ClassVar[str] = "axes"

    def merge(
        self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals
    ) -> list[tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]]]:
        if not is_matrix(site):
            return []
        eps, count = precision(taus), kept(site.shape, len(taus), self.rank)
        parts = [leading(thin_svd(tau, eps), count) for tau in taus]
        return [(u * s.sqrt(), s.sqrt()[:, None] * vh) for u, s, vh in parts]
