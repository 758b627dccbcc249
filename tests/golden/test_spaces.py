"""KnOTS and Core Space against the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths.spectra import core_bases
from mergekit_nb.methods import CoreSpace, IsoC, Knots, TaskArithmetic, Ties, Tsv

from .cases import MANIFEST, ids, params, related, under

LAYERS = ("q_proj.weight", "v_proj.weight")


def factors(golden, layer):
    """The LoRA factors of one layer: B `out rank` and A `rank in` of every task."""
    return [(golden[f"in/lora{t}/{layer}/B"], golden[f"in/lora{t}/{layer}/A"]) for t in range(3)]


def merge(method, golden, device):
    base = under(golden, "in/base/")
    loras = {layer: factors(golden, layer) for layer in LAYERS}
    experts = {str(t): {layer: pairs[t][0] @ pairs[t][1] for layer, pairs in loras.items()} for t in range(3)}
    # task vectors as they are: adding the base and taking it off again would round them
    return mk.merge(method, {name: torch.zeros_like(w) for name, w in base.items()}, experts, device=device).vector


@pytest.mark.parametrize("case", ids("knots/"))
def test_the_authors_knots(case, device):
    golden, p = related(case), params(case)
    if p["merge_method"] == "ties":
        method = Knots(density=p["topK"] / 100, scale=p["scaling"], merge_as=f"dis-{p['merging_type']}")
    else:
        method = Knots() | TaskArithmetic(scale=p["scaling"])
    merged = merge(method, golden, device)
    for layer, weight in under(golden, "out/").items():
        mine = golden[f"in/base/{layer}"] + merged[layer]
        assert_close(mine, weight, **MANIFEST[case]["compare"], msg=lambda m, n=layer: f"{n}: {m}")


INSIDE = {
    "core_space/sum": TaskArithmetic(scale=1), "core_space/mean": mk.methods.Average(), "core_space/tsv": Tsv(),
    "core_space/sum_iso": IsoC(),
}  # fmt: skip


@pytest.mark.parametrize("case", INSIDE)
def test_the_authors_core_space(case, device):
    golden = related(case)
    merged = merge(CoreSpace() | INSIDE[case], golden, device)
    for layer, delta in under(golden, "out/").items():
        assert_close(merged[layer], delta.float(), **MANIFEST[case]["compare"], msg=lambda m, n=layer: f"{n}: {m}")


def test_the_authors_ties_in_the_core_space_of_their_factors(device):
    case = "core_space/ties_topK50"
    golden = related(case)
    for layer, delta in under(golden, "out/").items():
        pairs = [(b.double(), a.double()) for b, a in factors(golden, layer)]
        u, vh = core_bases(torch.cat([b for b, _ in pairs], 1), torch.cat([a for _, a in pairs]), 1e-7)
        cores = {str(t): {"w": u.T @ b @ a @ vh.T} for t, (b, a) in enumerate(pairs)}
        density = params(case)["topK"] / 100
        ties = mk.merge(Ties(density=density), {"w": 0 * cores["0"]["w"]}, cores, device=device, dtype=torch.float64)
        assert_close(
            (u @ ties.vector["w"] @ vh).float(),
            delta.float(),
            **MANIFEST[case]["compare"],
            msg=lambda m, n=layer: f"{n}: {m}",
        )
