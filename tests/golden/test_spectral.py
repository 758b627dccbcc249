"""TSV-Merge, TSV-Compress, Iso-C and Iso-CTS against the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import mergekit_nb as mk

from .cases import MANIFEST, ids, params, related, under

TSV = {
    "compute_and_sum_svd_mem_reduction": {},
    "compute_and_sum_svd_mem_reduction_2": {},
    "compute_and_sum_svd_mem_reduction_lossless": {"rank": 1.0},
    "compute_and_sum_svd_mem_reduction_rank_reduction": {"whiten": False},
}
CASES = [
    *((f"tsv_merge/{function}", "tsv", options) for function, options in TSV.items()),
    ("iso/iso_c", "iso_c", {}),
    *((case, "iso_cts", {"common": params(case)["common_space_fraction"]}) for case in ids("iso/iso_cts")),
]


@pytest.mark.parametrize(("case", "method", "options"), CASES)
def test_the_authors_merged_task_vectors(case, method, options, device):
    golden = related(case)
    experts = {f"t{t}": under(golden, f"in/t{t}/") for t in range(params(case)["tasks"])}
    base = {name: torch.zeros_like(tau) for name, tau in experts["t0"].items()}
    merged = mk.merge(method, base, experts, device=device, **options)
    for name, vector in under(golden, "out/").items():
        assert_close(merged.vector[name], vector, **MANIFEST[case]["compare"], msg=lambda m, n=name: f"{n}: {m}")
