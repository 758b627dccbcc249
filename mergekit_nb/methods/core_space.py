"""Core Space: merge low-rank task vectors in the small space that holds them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mergekit_nb.maths.spectra import core_bases, thin_svd
from mergekit_nb.methods.base import Knob, Method
from mergekit_nb.methods.space import Entered, Pairs, Space
from mergekit_nb.methods.spectral import precision
from mergekit_nb.methods.tsv import Tsv


@dataclass(frozen=True)
class CoreSpace(Space):
    """With tau_t = B_t A_t: U spans the columns of all B_t side by side, V the rows of all A_t on top of each other. The
    small matrices U' tau_t V are merged, and U M V' leads back. Nothing is lost on the way.

    Alone it merges by TSV-Merge; `CoreSpace() | Ties(…)`, `CoreSpace() | IsoC()` and any other that gives one model.

    Attributes:
        scale: of TSV-Merge.

    Where all experts are PEFT adapters, B_t and A_t are their factors as they were trained, lora_alpha / rank counted into
    B_t, which gives the authors' basis. Of whole matrices they are the halves of tau_t's singular value decomposition,
    with the square root of its singular values on either side. Methods that turn with the basis (sums, TSV, Iso) do
    not care which; TIES does. Close singular values matter then (`generic`).

    Source: Panariello et al. 2025, "Accurate and Efficient Low-Rank Model Merging in Core Space", arXiv:2509.17786, and the
    authors' `get_core_matrices`.
    """

    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] = 1.0
    name: ClassVar[str] = "core_space"
    paper: ClassVar[str] = "Panariello et al. 2025, arXiv:2509.17786"

    @property
    def inside(self) -> Method:
        return Tsv(scale=self.scale)

    def enter(self, taus: Float[Tensor, "task out in"], factors: Pairs | None = None) -> Entered:
        eps = precision(taus)
        bs, as_ = zip(*(factors or [_halves(tau.double(), eps) for tau in taus]), strict=True)
        u, vh = core_bases(torch.cat(bs, 1), torch.cat(as_), eps)
        return (u.T @ taus.double() @ vh.T).to(taus.dtype), lambda merged: u @ merged.double() @ vh


def _halves(tau: Float[Tensor, "out in"], eps: float) -> tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]]:
    u, s, vh = thin_svd(tau, eps)
    return u * s.sqrt(), s.sqrt()[:, None] * vh
