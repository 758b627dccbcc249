"""UnIVAL's weight interpolation against the authors' code."""

from __future__ import annotations

import torch
from torch.testing import assert_close

import mergekit_nb as mk

from .cases import params, related, under


def test_the_authors_interpolation_of_two(device):
    case = "unival_interpolation/pairwise"
    golden = related(case)
    shares = params(case)["lambdas"]  # of the first model
    path = mk.interpolate(
        under(golden, "in/m1/"), under(golden, "in/m2/"), [1 - share for share in shares], one_sided="keep_first"
    )
    for share, model in zip(shares, path.values(), strict=True):
        expected = under(golden, f"out/l{share:.2f}/")
        assert model.keys() == expected.keys()
        for name, weight in expected.items():
            assert_close(model[name], weight, rtol=1e-5, atol=1e-6)


def test_what_is_skipped_stays_where_the_authors_multiply_it():
    case = "unival_interpolation/nway_skip_head"
    golden, p = related(case), params(case)
    models = {name: under(golden, f"in/{name}/") for name in ("m1", "m2", "m3")}
    mine = mk.blend(models, p["lambdas"], one_sided="keep_first", exclude="head*")
    assert_close(mine["enc.w"], golden["out/enc.w"], rtol=1e-5, atol=1e-6)
    first = models["m1"]
    for name in ("head.w", "img_only.w"):
        assert torch.equal(mine[name], first[name])
    assert_close(golden["out/head.w"], first["head.w"] * 0.5 * 1.3 * 1.2, rtol=1e-5, atol=1e-6)
    third = models["m3"]["img_only.w"]
    assert_close(golden["out/img_only.w"], first["img_only.w"] * 0.5 * 1.3 + 0.2 * third, rtol=1e-5, atol=1e-6)
