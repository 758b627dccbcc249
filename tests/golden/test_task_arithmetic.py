"""Task arithmetic against the authors' code, and against mergekit's and PEFT's."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

import mergekit_nb as mk

from .cases import ids, params, related, under


def options(case):
    p = params(case)
    if case.endswith("negate_c0.5"):
        return {"scale": p["scaling_coef"], "weights": tuple(-1.0 if t == p["task"] else 0.0 for t in range(3))}
    if case.endswith("analogy"):
        return {"scale": p["scaling_coef"], "weights": (1.0, -1.0, 1.0)}
    return {"scale": p["scaling_coef"]}


@pytest.mark.parametrize("case", ids("task_arithmetic/"))
def test_the_authors_models(case, device):
    golden = related(case)
    experts = {f"ft{t}": under(golden, f"in/ft{t}/") for t in range(3)}
    merged = mk.merge("task_arithmetic", under(golden, "in/base/"), experts, device=device, **options(case))
    for name, weight in under(golden, "out/").items():
        assert_close(merged.weights()[name.removeprefix("merged/")], weight, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("case", ids("mergekit/task_arithmetic"))
def test_mergekits_weights_and_normalisation(case, device):
    golden, p = related(case), params(case)
    scale = p["resolved"]["lambda"] / (sum(p["weights"]) if p["resolved"]["normalize"] else 1)
    experts = {t: {"w": golden[f"in/{t}"]} for t in ("ft0", "ft1", "ft2")}
    merged = mk.merge(
        "task_arithmetic", {"w": golden["in/base"]}, experts, device=device, scale=scale, weights=tuple(p["weights"])
    )
    assert_close(merged.weights()["w"], golden["out/merged"], rtol=1e-5, atol=1e-6)


def test_pefts_task_arithmetic(device):
    golden = related("peft/task_arithmetic")
    experts = {t: {"w": golden[f"in/{t}"]} for t in ("t0", "t1", "t2")}
    weights = tuple(golden["in/weights"].tolist())
    merged = mk.merge("task_arithmetic", {"w": 0 * golden["in/t0"]}, experts, device=device, scale=1, weights=weights)
    assert_close(merged.vector["w"], golden["out/merged"], rtol=1e-5, atol=1e-6)
