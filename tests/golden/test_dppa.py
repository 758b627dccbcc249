"""DPPA against the authors' code: outlier-adapted pruning, its simpler forms, and the amplification."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

import mergekit_nb as mk
from mergekit_nb.maths.outliers import amplify
from mergekit_nb.methods import Dppa

from .cases import ids, params, related, under

ADAPT = {"prune_mag_outlier_layer_wei": "matrix", "prune_mag_outlier": "block", "prune_magnitude": "none"}


@pytest.mark.parametrize("case", ids("dppa/prune"))
def test_the_authors_pruned_task_vectors(case, device):
    golden, p = related(case), params(case)
    tau = under(golden, "in/")
    method = Dppa(
        drop=p["sparsity_ratio"], window=p["Lamda"], limit=p["Hyper_m"], scale=1,
        adapt=ADAPT[case.removeprefix("dppa/").rpartition("_r")[0]],
    )  # fmt: skip
    zeros = {name: 0 * t for name, t in tau.items()}
    merged = mk.merge(method, zeros, {"a": tau, "zero": zeros}, device=device)
    for name, expected in under(golden, "out/").items():
        assert_close(merged.vector[name], expected, rtol=1e-5, atol=1e-7, msg=name)


def test_the_authors_amplification():
    golden, p = related("dppa/partition_amplification"), params("dppa/partition_amplification")
    nine, eight = under(golden, "in/nine/"), under(golden, "in/eight/")
    for name, expected in under(golden, "out/").items():
        mine = amplify(nine[name], eight[name], p["nine_ratio"], p["eight_ratio"])
        assert_close(mine, expected, rtol=1e-5, atol=1e-7, msg=name)
