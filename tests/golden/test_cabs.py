"""CABS against the authors' code."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.methods import Cabs

from .cases import ids, params, related, under


@pytest.mark.parametrize("case", ids("cabs/"))
def test_the_authors_pruned_task_vectors(case):
    golden, p = related(case), params(case)
    options = {"drop": p["sparsity_level"]} if p["method"] == "magnitude" else {"n": p["n"], "m": p["m"]}
    experts = {task: under(golden, f"in/{task}/") for task in ("a", "b")}
    taus = mk.TaskVectors.of({name: 0 * w for name, w in experts["a"].items()}, experts)
    for name in taus.names:
        edited = Cabs(by=p["method"], **options).edit(taus.site(name), taus.at(name))
        for task, tau in zip("ab", edited, strict=True):
            assert_close(tau, golden[f"out/{task}/{name}"], msg=f"{task} {name}")
