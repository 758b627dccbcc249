"""Joint accuracy: by hand on three pictures, and the rules where they differ."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from mergekit_nb.evaluation.interval import wilson
from mergekit_nb.evaluation.joint import joint, joints, shares
from mergekit_nb.evaluation.tasks import Task

AXES = torch.eye(4)


def task(name, classes, embeddings, labels):
    """Pictures whose pixels are their embedding."""
    images = torch.tensor(embeddings, dtype=torch.uint8)[:, :, None, None]
    return Task(
        name, classes, "{}", AXES, None, lambda _: (images, torch.tensor(labels)), lambda x: x.float().flatten(1)
    )


@pytest.fixture
def tasks():
    first = task("first", ("a", "b"), [[9, 1, 0, 0], [1, 2, 5, 0], [3, 1, 0, 0]], [0, 1, 1])
    second = task("second", ("c", "d"), [[0, 0, 9, 1], [0, 8, 1, 2]], [0, 1])
    return [
        Task(of.name, of.classes, of.prompt, AXES[k : k + 2], of.model, of.split, of.preprocess)
        for of, k in ((first, 0), (second, 2))
    ]


def test_by_hand(tasks):
    # picture:   1 a      2 b, looks like c   3 b, looks like a   4 c      5 d, looks like b
    # jointly:   right    wrong               wrong               right    wrong
    # own task:  right    right (b over a)    wrong               right    right (d over c)
    table = joint(nn.Identity(), tasks).set_index("task")
    assert list(table.index) == ["joint", "first", "second"]
    assert table["n"].tolist() == [5, 3, 2]
    assert_close(table["accuracy"].tolist(), [2 / 5, 2 / 3, 1.0])
    low, high = wilson([2, 2, 2], [5, 3, 2])
    assert_close(table[["low", "high"]].to_numpy().T.tolist(), [low.tolist(), high.tolist()])


def test_the_loss_is_the_cross_entropy_of_the_scaled_cosines(tasks):
    table = joint(nn.Identity(), tasks, scale=3.0).set_index("task")
    pixels = torch.cat([of.preprocess(of.split("test")[0]) for of in tasks])
    logits, labels = 3.0 * F.normalize(pixels, dim=-1), torch.tensor([0, 1, 1, 2, 3])
    assert table.loc["joint", "loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    own = F.cross_entropy(logits[3:, 2:], labels[3:] - 2)
    assert table.loc["second", "loss"] == pytest.approx(own.item(), rel=1e-5)


def test_each_head_speaks_of_its_own_task_only(tasks):
    turned = torch.tensor([2, 3, 0, 1])

    def heads(x):  # each head is right on its own task's pictures, and says nonsense of all others
        return [torch.cat([x[:, :2], 100 + x[:, 2:]], 1), x[:, turned] * 0 + x]

    table = joint(heads, tasks).set_index("task")
    assert table.loc["second", "accuracy"] == 1.0
    assert table.loc["first", "accuracy"] == pytest.approx(2 / 3)


def test_models_together_are_a_model_of_many_heads(tasks):
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    together = joint([one, other], tasks)
    assert together.equals(joint(lambda x: [one(x), other(x)], tasks))


def test_the_two_rules_of_many_heads():
    owner = torch.tensor([0, 0, 1, 1])
    # head 0 thinks of class c most, which is not its own; head 1 is sure of d
    logits = [torch.tensor([[1.0, 0.0, 9.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0, 2.0]])]
    best, summed = shares(logits, owner, "max"), shares(logits, owner, "sum")
    first, second = torch.tensor([1.0, 0.0]).softmax(0), torch.tensor([0.0, 2.0]).softmax(0)
    assert_close(best[0], torch.cat([first, second]) / 2)
    assert best.argmax() == 3
    assert summed.argmax() == 2
    for found in (best, summed):
        assert_close(found.sum(1), torch.ones(1))


def test_one_output_is_a_plain_softmax_whatever_the_rule():
    logits = [torch.tensor([[1.0, 2.0, 3.0]])]
    for rule in ("max", "sum"):
        assert_close(shares(logits, torch.tensor([0, 0, 1]), rule), logits[0].softmax(1))


def test_batches_do_not_matter(tasks):
    assert joint(nn.Identity(), tasks, batch_size=1).round(6).equals(joint(nn.Identity(), tasks).round(6))


def test_the_module_is_not_touched_and_runs_in_eval_mode(tasks):
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.9)).train()
    assert joint(net, tasks).equals(joint(net, tasks))
    assert net.training
    assert net[0].num_batches_tracked == 0


def test_an_output_too_many_is_refused(tasks):
    with pytest.raises(ValueError, match="3 outputs for 2 tasks: give one output for all tasks, or one for each"):
        joint([nn.Identity()] * 3, tasks)


def test_unknown_rules_are_refused(tasks):
    with pytest.raises(ValueError, match="rule is one of max, sum; got 'mean'"):
        joint(nn.Identity(), tasks, rule="mean")


def test_several_models_stand_below_each_other_under_their_names(tasks):
    models = {"one": nn.Identity(), "two": [nn.Identity(), nn.Identity()]}
    table = joints(models, tasks, scale=3.0)
    assert list(table.columns[:2]) == ["method", "task"]
    for name, model in models.items():
        rows = table[table["method"] == name].drop(columns="method").reset_index(drop=True)
        assert rows.equals(joint(model, tasks, scale=3.0))


def test_networks_with_a_head_for_their_own_classes_give_logits(tasks):
    # the pixels are the logits: of two classes each, or of all four
    own = joint(lambda x: [x[:, :2], x[:, 2:]], tasks, gives="logits")
    assert own.equals(joint(lambda x: [x, x], tasks, gives="logits"))
    pixels = torch.cat([of.preprocess(of.split("test")[0]) for of in tasks])
    labels = torch.tensor([0, 1, 1, 2, 3])
    guess = torch.cat([pixels[:, :2].softmax(1), pixels[:, 2:].softmax(1)], 1).argmax(1)
    assert own["accuracy"][0] == pytest.approx((guess == labels).float().mean().item())
    assert own["accuracy"][1:].tolist() == joint(nn.Identity(), tasks, gives="logits")["accuracy"][1:].tolist()


def test_the_sum_of_heads_that_know_their_own_classes_only(tasks):
    both = joint(lambda x: [x[:, :2], x[:, 2:]], tasks, gives="logits", rule="sum")
    assert both.equals(joint(lambda x: [x[:, :2], x[:, 2:]], tasks, gives="logits", rule="max"))


def test_logits_of_other_classes_are_refused(tasks):
    with pytest.raises(ValueError, match="output 2 has 3 logits; its task has 2 classes, all tasks 4"):
        joint(lambda x: [x[:, :2], x[:, :3]], tasks, gives="logits")
    with pytest.raises(ValueError, match="gives is one of embeddings, logits; got 'scores'"):
        joint(nn.Identity(), tasks, gives="scores")
