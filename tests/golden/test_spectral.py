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


def test_the_authors_compressed_task_vector(device):
    case = "tsv_merge/tsv_compress"
    golden, near = related(case), MANIFEST[case]["compare"]
    tau = golden["in/x"]
    merged = mk.merge(
        "tsv_compress", {"w": 0 * tau}, {"a": {"w": tau}, "zero": {"w": 0 * tau}}, rank=params(case)["sv_reduction"], device=device,
    )  # fmt: skip
    assert_close(merged.weights("a")["w"], golden["out/reconstruction"], **near)
    left, right = merged.patches["a"].factors["w"]
    assert_close(left.norm(dim=0) * right.norm(dim=1), golden["out/s"], **near)
    assert not merged.weights("zero")["w"].any()


def test_a_compressed_merge_costs_its_factors(tmp_path):
    tau = related("tsv_merge/tsv_compress")["in/x"]
    merged = mk.merge(
        "tsv_compress", {"w": 0 * tau, "b": torch.ones(3)}, {t: {"w": tau, "b": torch.ones(3)} for t in "ab"}
    )
    # half of the 12 singular values, 18 + 12 numbers each; the bias of 3 is each task's own
    assert merged.nbytes == {"shared": 4 * (18 * 12 + 3), "patches": dict.fromkeys("ab", 4 * (6 * (18 + 12) + 3))}
    back = mk.load(merged.save(tmp_path / "merge"))
    assert back.nbytes == merged.nbytes
    assert torch.equal(back.weights("b")["w"], merged.weights("b")["w"])
