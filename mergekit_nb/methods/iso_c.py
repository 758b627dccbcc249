"""Iso-C: the sum of the task vectors with a flat spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.elect import ordered_sum
from mergekit_nb.maths.spectra import flattened, product, thin_svd
from mergekit_nb.methods.base import Knob, Method, Totals
from mergekit_nb.methods.spectral import is_matrix, mean, precision
from mergekit_nb.weights.site import Site


@dataclass(frozen=True)
class IsoC(Method):
    """Per matrix: sum of tau_t = U diag(s) V becomes scale * mean(s) * U V. Other tensors get the mean.

    Attributes:
        scale: multiplies the merged vector; the authors' code sweeps 0 … 3.

    Where the sum has not full rank (LoRA experts, unchanged tensors), the authors' code puts the mean on the null space
    too, in directions that LAPACK happened to return; here only the numerical rank counts, and the mean is over it.

    Source: Marczak et al. 2025, "No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces",
    arXiv:2502.04959, Iso-C, and the authors' `iso_c`.
    """

    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 1.0
    name: ClassVar[str] = "iso_c"
    paper: ClassVar[str] = "Marczak et al. 2025, arXiv:2502.04959"
    commutes: ClassVar[str] = "axes"

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        if not is_matrix(site):
            return self.scale * mean(taus)
        merged = product(*flattened(thin_svd(ordered_sum(taus), precision(taus))))
        return self.scale * merged.to(taus.dtype)
