"""Accuracy and cost along the boundary, on the shipped strangers."""

import pytest

import mergekit_nb as mk


@pytest.fixture(scope="module")
def table():
    zoo = mk.zoo.load("strangers")
    how = {"alpha": 0.5, "beta": 0.5, "methods": ["zip"], "scale": zoo.scale, "limit": 40}
    return mk.tradeoff(zoo.of("mnist"), zoo.tasks_of("mnist"), zoo.batches("mnist")[:1], **how)


def cost(table, method, boundary):
    rows = table[(table["method"] == method) & (table["boundary"] == boundary)]
    return rows["flops"].unique().item()


def test_every_boundary_is_there_and_every_row_of_each(table):
    assert list(dict.fromkeys(zip(table["method"], table["boundary"], strict=True))) == [
        ("ensemble", "nothing"), ("alone", "mnist-a"), ("alone", "mnist-b"),
        ("zip", "layer1"), ("zip", "layer2"), ("zip", "layer3"), ("zip", "all"),
    ]  # fmt: skip
    assert list(table["task"]) == ["joint", "mnist-a", "mnist-b"] * 7


def test_a_full_zip_costs_one_network_and_the_ensemble_all_of_them(table):
    one = cost(table, "alone", "mnist-a")
    assert cost(table, "zip", "all") == one
    assert cost(table, "ensemble", "nothing") == 2 * one


def test_a_partial_zip_costs_one_network_and_a_second_head(table):
    one, zoo = cost(table, "alone", "mnist-a"), mk.zoo.load("strangers")
    batches = zoo.batches("mnist")[:1]
    for boundary in ("layer1", "layer2", "layer3"):
        zipped = mk.zipit(list(zoo.of("mnist").values()), batches, stop_at=boundary)
        head = mk.flops(zipped, batches[0][:1]) - mk.flops(zipped.trunk, batches[0][:1])
        assert cost(table, "zip", boundary) == one + head / 2


def test_deeper_boundaries_are_cheaper(table):
    costs = [cost(table, "zip", boundary) for boundary in ("layer1", "layer2", "layer3", "all")]
    assert costs == sorted(costs, reverse=True)


def test_an_unknown_method_lists_the_known_ones():
    zoo = mk.zoo.load("strangers")
    with pytest.raises(ValueError, match="no method ties: there are zip, permute, average"):
        mk.tradeoff(zoo.of("mnist"), zoo.tasks_of("mnist"), zoo.batches("mnist"), methods=["ties"])
