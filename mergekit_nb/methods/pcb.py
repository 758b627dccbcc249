"""PCB-Merging: parameters compete, within their task and between tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mergekit_nb.maths import compete, histogram
from mergekit_nb.methods.base import Grain, Knob, Method, Totals
from mergekit_nb.weights.site import Site
from mergekit_nb.weights.task_vectors import TaskVectors

RELEASED_Q = {"A": 1e-4, "B": 1e-2, "C": 1e-2, "D": 1e-2, "paper": 0.0}
ENDS = "ends of "  # before a tensor's name


@dataclass(frozen=True)
class Pcb(Method):
    """Score every entry of every task, drop the lowest, and average what is left by its score.

    1. Magnitudes are clipped to the q-th and (1 - q)-th quantile of their task.
    2. intra = exp(T * unit(|tau|)^2): large entries matter to their task.
    3. inter = tanh(tau_i * sum of tau_j): negative where an entry is against the others ("C" and "D": see below).
    4. Scores intra * inter; the highest `ratio` of each task, less the threshold and divided by the range, are weights.
    5. base + sum of weights_i * scale_i * tau_i / sum of weights_i; entries that all tasks drop keep the base's value.

    Attributes:
        variant: the authors released four: "A" `pcb-merging.py`, what their README points at; "B" their language code
            (A, with q = 0.01); "C" their vision script without search, tanh(tau_i * sum of S_j) with
            S = sign(tau) * unit(|tau|); "D" their vision script with searched scales, sum of tanh(S_i * S_j). "paper" is
            the printed form: softmax over the model in both factors, tau not clipped, weights not shifted to 0 at the
            threshold.
        ratio: the fraction of entries each task keeps.
        scale: multiplies the merged vector; or one number per task, inside the average.
        q: the quantile of step 1; None for the variant's released one (A 1e-4; B, C, D 1e-2). "paper" has none.

    Ranks, quantiles and ranges are those of the whole model, exact, found in rounds of additive histograms. A task whose
    magnitudes are all the same (one equal to the base, say) weighs 0, with a warning; the authors' code then makes every
    weight NaN. Where `ratio` leaves no entry above the threshold, the highest-scoring ones are kept.

    Source: Du et al. 2024, "Parameter Competition Balancing for Model Merging", arXiv:2410.02396, section 3, with the
    authors' code. Their searched scales: `mk.search`.
    """

    variant: Literal["A", "B", "C", "D", "paper"] = "A"
    ratio: Annotated[float, Knob(1e-6, 1, "fraction of entries kept")] = 0.1
    scale: Annotated[float, Knob(-2, 5, "multiplier of the merged vector")] | tuple[float, ...] = 1.2
    q: Annotated[float, Knob(0, 0.25, "fraction of entries clipped at either end")] | None = None
    name: ClassVar[str] = "pcb"
    paper: ClassVar[str] = "Du et al. 2024, arXiv:2410.02396"

    @property
    def homogeneous(self) -> bool:
        return self.variant in ("D", "paper")  # the others take tanh of products in squared weight units

    @property
    def grain(self) -> Grain:
        return "tensor" if self.variant == "paper" else "entry"  # the paper's ranges do not add up

    def rounds(self, dtype: torch.dtype) -> int:
        return self._range_rounds(dtype) + histogram.rounds(dtype)

    def measure(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> dict[str, Tensor]:
        """First the range of every task's entries, then the threshold and the top of its scores."""
        first = self._range_rounds(taus.dtype)
        if len(totals) >= first:
            earlier = [total["scores"] for total in totals[first:]]
            scores = self.scores(taus, totals)
            return {"scores": histogram.counts(scores, earlier, self._cut_ranks(totals), signed=True)}
        size = {"size": torch.tensor(site.size)}
        if self.variant == "paper":
            return size | (self._measure_softmax(site, taus, totals) if site.size else {})
        ranks = self._clip_ranks(totals) if totals else (1, 1)
        return size | {"range": histogram.counts(taus, [total["range"] for total in totals], ranks)}

    def merge(self, site: Site, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "*shape"]:
        weights = self.weights(taus, totals)
        if self.variant != "paper":
            taus = compete.clip(taus, *self.ends(totals, taus))
        scales = self.scale if isinstance(self.scale, tuple) else (self.scale,) * len(taus)
        return compete.fuse(taus, weights, torch.tensor(scales, dtype=taus.dtype, device=taus.device))

    def scores(self, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "task *shape"]:
        """intra * inter of every entry."""
        ends = self.ends(totals, taus)
        if self.variant != "paper":
            return compete.intra_balance(taus, *ends) * compete.inter_balance(taus, self.variant, *ends)
        sums = histogram.total(totals[1]["sums"].flatten(0, 1), taus.dtype).reshape(-1, len(taus))
        means = (sums / int(totals[0]["size"])).to(taus)
        return compete.softmax_scores(taus, ends, means[-1], means[:-1])

    def weights(self, taus: Float[Tensor, "task *shape"], totals: Totals) -> Float[Tensor, "task *shape"]:
        """What every entry counts for; 0 where it is dropped."""
        return self.weigh(self.scores(taus, totals), self.cut(totals, taus.dtype), self.varied(totals, taus.dtype))

    def weigh(
        self, scores: Float[Tensor, "task *shape"], cut: Float[Tensor, "2 task"], varied: Bool[Tensor, " task"]
    ) -> Float[Tensor, "task *shape"]:
        """`weights` of entries whose scores are known, from `cut` and `varied` of the whole model."""
        low, top = cut.to(scores.device)
        if self.variant == "paper":
            weights = compete.keep(scores, low)
        else:
            weights = compete.rescale(scores, compete.drop(scores, low, top), low, top)
        weighs = varied.to(scores.device).reshape(-1, *[1] * (scores.ndim - 1))
        return torch.where(weighs, weights, torch.zeros_like(weights))

    def ends(self, totals: Totals, taus: Float[Tensor, "task *shape"]) -> Tensor:
        """The ends of the range, over the whole model, that `compete`'s steps take: 2 task; for "paper" 2 task task."""
        return self._range(totals, taus.dtype).to(taus.device)

    def cut(self, totals: Totals, dtype: torch.dtype) -> Float[Tensor, "2 task"]:
        """Of every task the score at and below which entries are dropped, and the highest, over the whole model."""
        counted = [total["scores"] for total in totals[self._range_rounds(dtype) :]]
        found = histogram.prefixes(counted, self._cut_ranks(totals))
        return torch.stack([histogram.value(prefix, dtype, signed=True) for prefix in found])

    def notes(self, taus: TaskVectors, totals: Totals) -> list[str]:
        dtype = torch.float32 if len(totals) == self.rounds(torch.float32) else torch.float64
        varied = self.varied(totals, dtype).tolist()
        alike = [task for task, varies in zip(taus.tasks, varied, strict=True) if not varies]
        return [
            f"{task}: its task vector has one magnitude everywhere (is it the base?), so pcb gives it weight 0"
            for task in alike
        ]

    def _range_rounds(self, dtype: torch.dtype) -> int:
        return 2 if self.variant == "paper" else histogram.rounds(dtype)

    def _clip_ranks(self, totals: Totals) -> tuple[int, int]:
        q = RELEASED_Q[self.variant] if self.q is None else self.q
        return compete.clip_ranks(int(totals[0]["size"]), q)

    def _cut_ranks(self, totals: Totals) -> tuple[int, int]:
        size = int(totals[0]["size"])
        return compete.cut_rank(size, self.ratio), size

    def _range(self, totals: Totals, dtype: torch.dtype) -> Tensor:
        """Least and greatest, over the model, of |tau| after clipping: 2 task; for "paper" of tau_i tau_j: 2 task task."""
        if self.variant == "paper":
            ends = torch.stack([ends for key, ends in totals[0].items() if key.startswith(ENDS)])
            return torch.stack([ends[:, 0].amin(0), ends[:, 1].amax(0)])
        counted = [total["range"] for total in totals[: self._range_rounds(dtype)]]
        found = histogram.prefixes(counted, self._clip_ranks(totals))
        return torch.stack([histogram.value(prefix, dtype) for prefix in found])

    def varied(self, totals: Totals, dtype: torch.dtype) -> Tensor:
        """Which tasks have entries of different magnitude: bool, task."""
        low, high = self._range(totals, dtype)
        return (high > low).diagonal() if self.variant == "paper" else high > low

    def _measure_softmax(self, site: Site, taus: Tensor, totals: Totals) -> dict[str, Tensor]:
        """The ends of all products, under the tensor's name; then the exact sums of all numerators."""
        if not totals:
            return {ENDS + site.name: compete.softmax_range(taus).cpu()}
        ends = self.ends(totals, taus)
        rows = [compete.softmax_inter(taus, i, ends) for i in range(len(taus))] + [compete.softmax_intra(taus, ends)]
        return {"sums": torch.stack([histogram.magnitude_sums(row) for row in rows])}
