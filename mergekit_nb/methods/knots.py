"""KnOTS: merge in the basis of all tasks' outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.spectra import side_by_side, thin_svd
from mergekit_nb.methods.base import Knob, Method
from mergekit_nb.methods.space import Entered, Pairs, Space
from mergekit_nb.methods.spectral import precision
from mergekit_nb.methods.ties import Ties


@dataclass(frozen=True)
class Knots(Space):
    """Per matrix [tau_1 | … | tau_T] = U diag(s) [V_1 | … | V_T]; the blocks diag(s) V_t are merged, and U leads back.

    Alone it merges by TIES (`Ties` has all its options: `Knots() | Ties(…)`); `Knots() | Dare(…)` and any other method
    that gives one model work as well.

    Attributes:
        density, scale, merge_as: of TIES.

    The paper is about LoRA experts, whose blocks are small; full matrices work too. Singular values count above the
    numerical rank; the authors' code keeps those above 1e-5, whatever the size of the task vectors. Their code trims
    over all layers, in the blocks, as here, and uses the first of their per-task scales only; its other orientation
    (`concat_across_output=False`) fails unless matrices are square. TIES sees the basis, so close singular values
    matter (`generic`).

    Source: Stoica et al. 2024, "Model merging with SVD to tie the Knots", arXiv:2410.19735, and the authors' `SVDMerger`.
    """

    density: Annotated[float, Knob(0, 1, "fraction of entries kept")] = 0.2
    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 1.0
    merge_as: Literal["dis-mean", "dis-sum"] = "dis-mean"
    name: ClassVar[str] = "knots"
    paper: ClassVar[str] = "Stoica et al. 2024, arXiv:2410.19735"

    @property
    def inside(self) -> Method:
        # a rotated basis has signs of its own, so a model-wide majority of signs would mean nothing
        return Ties(self.density, self.scale, merge_as=self.merge_as, zero_sign="positive")

    def enter(self, taus: Float[Tensor, "task out in"], factors: Pairs | None = None) -> Entered:
        u, s, vh = thin_svd(side_by_side(taus).double(), precision(taus))
        blocks = rearrange(s[:, None] * vh, "k (task columns) -> task k columns", task=len(taus))
        return blocks.to(taus.dtype), lambda merged: u @ merged.double()
