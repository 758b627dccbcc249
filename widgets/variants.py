"""The models whose accuracy is compared: EMR step by step, and EMR up to one layer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from mergekit_nb.widgets.accuracy_figure import Look
from mergekit_nb.widgets.walk.study import Study

LABELS = {
    "base": "base, zero-shot",
    "elect": "elect",
    "mask": "+ mask",
    "rescale": "+ rescale",
    "partial": "merged up to this layer",
    "individual": "individual experts",
}

# Okabe and Ito's colours: told apart by colour-blind readers, on a light and on a dark page; patterns tell them apart in print
COLOUR = dict(zip(LABELS, ("#999999", "#e69f00", "#56b4e9", "#0072b2", "#cc79a7", "#009e73"), strict=True))
PATTERN = dict(zip(LABELS, ("", "/", "\\", "", "x", ""), strict=True))
LOOKS = {variant: Look(label, COLOUR[variant], PATTERN[variant]) for variant, label in LABELS.items()}


def subject(study: Study, variant: str, layer: int) -> Mapping:
    """What `mk.evaluate` is to be given for a variant.

    Args:
        variant: a key of LABELS. "elect": base + unified vector, one model. "mask": base + mask * vector. "rescale": EMR.
            "partial": see `Partial`. "individual": the experts.
        layer: number of the last merged layer, for "partial".
    """
    merged = study.merged
    if variant == "partial":
        return Partial(study, layer)
    return {
        "base": lambda: study.vectors.base,
        "individual": lambda: study.vectors.experts,
        "rescale": lambda: merged,
        "elect": lambda: replace(merged, patches={}),
        "mask": lambda: replace(merged, patches={t: replace(p, scale=1.0) for t, p in merged.patches.items()}),
    }[variant]()


@dataclass(frozen=True)
class Partial(Mapping[str, Mapping[str, Tensor]]):
    """Per task: EMR's weights in the layers 0 to `layer`, the task's own expert in the layers after it."""

    study: Study
    layer: int

    def __getitem__(self, task: str) -> dict[str, Tensor]:
        weights, expert = self.study.merged.weights(task), self.study.vectors.experts[task]
        later = list(self.study.layers.values())[self.layer + 1 :]
        return weights | {name: expert[name] for names in later for name in names}

    def __iter__(self) -> Iterator[str]:
        return iter(self.study.tasks)

    def __len__(self) -> int:
        return len(self.study.tasks)
