"""ZipWalk: what it shows is what mk.zipit, mk.joint and mk.flops say; state, controls and figures are one thing."""

import io
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import mergekit_nb as mk
from mergekit_nb.analysis import matched
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.models.axes import derive
from mergekit_nb.models.moments import joint_moments
from mergekit_nb.models.resnet import ResNet
from mergekit_nb.widgets import ZipWalk
from mergekit_nb.widgets.walk.state import StateError
from mergekit_nb.widgets.zipwalk.compute import Heeding, measured
from mergekit_nb.widgets.zipwalk.excite import TOP
from mergekit_nb.widgets.zipwalk.matrix import arranged, ranked, strength
from mergekit_nb.widgets.zipwalk.state import Key, ZipState
from mergekit_nb.widgets.zipwalk.study import study

SOON = 60  # seconds
SIDE, EMBED, IMAGES = 8, 6, 30
BOUNDARIES = ("nothing", "layer1", "layer2", "layer3", "all")


def net(seed, outputs=EMBED):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = ResNet(widths=(4, 6, 8), blocks=(1, 1, 1), outputs=outputs)
        made(torch.randn(32, 3, SIDE, SIDE))  # batch norm's statistics are its own
        return made.eval()


def scaled(images):
    return images.float() / 255


@pytest.fixture(scope="module")
def networks():
    return {"left": net(0), "right": net(1)}


@pytest.fixture(scope="module")
def tasks(networks):
    """What each network says of its own pictures is right."""
    g, made = torch.Generator().manual_seed(2), {}
    for name, module in networks.items():
        images = torch.randint(0, 255, (IMAGES, 3, SIDE, SIDE), generator=g, dtype=torch.uint8)
        head = F.normalize(torch.randn(3, EMBED, generator=g), dim=1)
        with torch.no_grad():
            labels = (F.normalize(module(scaled(images)), dim=1) @ head.T).argmax(1)
        classes = tuple(f"{name}-{k}" for k in range(3))
        made[name] = Task(name, classes, "{}", head, net, lambda split, pair=(images, labels): pair, scaled)
    return made


@pytest.fixture(scope="module")
def batches():
    return list(torch.rand(64, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)).split(16))


@pytest.fixture
def panel(networks, tasks, batches):
    return shown(ZipWalk(networks, tasks, batches, scale=10.0))


def shown(panel):
    """As when a page has drawn it."""
    panel.figure._drawn = True
    return done(panel)


def done(panel):
    assert panel.job.wait(SOON)
    assert panel.looking.wait(SOON)
    return panel


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def floats(values):
    return np.array(values, dtype=float)


def test_nothing_is_measured_before_the_page_has_drawn_it(networks, tasks, batches):
    panel = ZipWalk(networks, tasks, batches)
    assert not panel.job.running
    assert not panel.known
    assert "is not measured yet" in panel.said.value


def test_every_boundary_is_what_zipit_joint_and_flops_say(panel, networks, tasks, batches):
    assert panel.study.boundaries == BOUNDARIES
    nets = list(networks.values())
    for boundary in BOUNDARIES:
        panel.state.boundary = boundary
        if boundary == "nothing":
            model, cost = nets, sum(mk.flops(one, batches[0][:1]) for one in nets)
        else:
            model = mk.zipit(nets, batches, stop_at=None if boundary == "all" else boundary)
            cost = mk.flops(model, batches[0][:1])
        table = mk.joint(model, tasks, scale=10.0, split="validation")
        point = done(panel).known[panel.state.key()]
        assert point.flops == cost
        assert point.table["accuracy"].tolist() == table["accuracy"].tolist()
        np.testing.assert_allclose(point.table["loss"], table["loss"], rtol=1e-5)
        now = trace(panel.figure, "on show")
        np.testing.assert_allclose(floats(now.y), table["accuracy"])
        np.testing.assert_allclose(now.error_y.array, table["high"] - table["accuracy"])
        assert f"<b>{table['accuracy'][0]:.1%}</b>" in panel.said.value
        assert f"{cost / 1e6:.2f} million" in panel.said.value


def test_brackets_and_curve_are_those_of_tradeoff(panel, networks, tasks, batches):
    for method in ("zip", "permute", "average"):
        panel.state.method = method
        panel.state.boundary = "layer2"
        done(panel)
    wanted = mk.tradeoff(networks, tasks, batches, scale=10.0, split="validation")
    columns = ["method", "boundary", "task", "flops", "accuracy", "low", "high"]
    history = panel.history()
    both = [table[columns].sort_values(columns[:3]).reset_index(drop=True) for table in (history, wanted)]
    np.testing.assert_array_equal(both[0].iloc[:, :3], both[1].iloc[:, :3])
    np.testing.assert_allclose(both[0].iloc[:, 3:].astype(float), both[1].iloc[:, 3:].astype(float))
    joint = wanted[wanted["task"] == "joint"]
    for method in ("zip", "permute", "average", "alone"):
        line, part = trace(panel.figure, method), joint[joint["method"] == method].sort_values("flops")
        np.testing.assert_allclose(floats(line.x), part["flops"] / 1e6)
        assert sorted(line.y) == sorted(part["accuracy"])
    assert panel.figure.layout.xaxis2.range[0] == 0


@pytest.mark.parametrize("method", ["zip", "permute", "average"])
def test_the_groups_drawn_are_those_of_zipit(panel, networks, batches, method):
    panel.state.method = method
    matching = {"average": "identity"}.get(method, method)
    zipped = mk.zipit(list(networks.values()), batches, matching=matching)
    correlations = joint_moments(list(networks.values()), batches, derive(networks["left"], batches[0][:1]))
    for layer in panel.study.layers:
        panel.state.layer = layer
        done(panel)
        assert panel.found.groups == zipped.groups[layer]
        names, correlation = panel.study.names(layer), correlations[layer].correlation()
        at = {name: k for k, name in enumerate(names)}
        heat = panel.matrix.data[0]
        order = [at[name] for name in heat.x]
        np.testing.assert_allclose(heat.z, correlation[order][:, order], atol=1e-6)
        pairs = matched(panel.found)
        for place, kind in ((1, "across models"), (2, "within a model")):
            marks = panel.matrix.data[place]
            drawn = {(at[a], at[b]) for a, b in zip(marks.y, marks.x, strict=True)}
            part = pairs[pairs["kind"] == kind]
            assert drawn == set(zip(part["a"], part["b"], strict=True)) | set(zip(part["b"], part["a"], strict=True))


def test_the_order_is_by_group_or_as_they_are(panel):
    names, groups = panel.study.names(panel.state.layer), panel.found.groups
    correlation = panel.study.correlations[panel.state.layer]
    strengths = [strength(correlation, groups[k]) for k in ranked(correlation, panel.found)]
    known = [value for value in strengths if value is not None]
    assert known == sorted(known, reverse=True)
    assert strengths[len(known) :] == [None] * (len(strengths) - len(known))
    assert sorted(arranged(correlation, panel.found, "by group")) == list(range(len(names)))
    panel.state.order = "as they are"
    assert list(panel.matrix.data[0].x) == names
    assert list(panel.matrix.layout.xaxis.ticktext) == ["left", "right"]
    panel.state.order = "by group"
    assert [names.index(name) for name in panel.matrix.data[0].x][: len(groups[panel.state.group])] == list(
        groups[panel.state.group]
    )


def test_a_click_goes_to_the_group_of_the_row(panel):
    class Points:
        point_inds = ((len(panel.matrix.data[0].y) - 1, 0),)

    panel._go(None, Points, None)
    last = panel.matrix.data[0].y[-1]
    names = panel.study.names(panel.state.layer)
    assert names.index(last) in panel.found.groups[panel.state.group]
    assert last in panel.sheet.value
    assert panel.groups.value == panel.state.group
    frame, shown = panel.matrix.layout.shapes[-1], panel.matrix.data[0].x
    framed = {names.index(name) for place, name in enumerate(shown) if frame.x0 < place < frame.x1}
    assert framed == set(panel.found.groups[panel.state.group])
    panel.state.order = "as they are"
    assert {names.index(name) for name in panel.matrix.data[3].x} == framed
    assert not panel.matrix.layout.shapes[-1].visible


def test_the_pictures_are_those_that_excite_a_feature_most(panel, networks, tasks):
    layer, space = "layer1", panel.study.axes.space("layer1")
    pictures = torch.cat([task.split("validation")[0] for task in tasks.values()])
    with torch.no_grad():
        for number, module in enumerate(networks.values()):
            x = scaled(pictures)
            activations = module.layer1(F.relu(module.bn1(module.conv1(x))))
            for feature in range(space.width):
                strongest = activations[:, feature].amax((1, 2)).topk(TOP).values
                top = panel.study.excited.top[layer][number * space.width + feature]
                assert torch.allclose(activations[top, feature].amax((1, 2)), strongest)
    shown, classes = panel.study.excited.of(layer, 0)
    assert shown.shape == (TOP, 3, SIDE, SIDE)
    assert all(name.startswith(("left-", "right-")) for name in classes)


def test_a_group_is_shown_by_its_members_pictures(panel):
    names = panel.study.names(panel.state.layer)
    panel.state.group = 1
    members = [names[feature] for feature in panel.found.groups[1]]
    assert all(f"<b>{name}</b>" in panel.sheet.value for name in members)
    assert panel.sheet.value.count("<img alt='") == len(members)


def test_another_matching_has_other_groups(panel):
    panel.state.group = 2
    panel.state.beta = 1.0
    panel.state.alpha = 1.0
    done(panel)
    assert panel.state.group == ranked(panel.study.correlations[panel.state.layer], panel.found)[0]
    assert "alpha=1, beta=1" not in panel.said.value, "nothing is shared yet"
    panel.state.boundary = "all"
    assert "alpha=1, beta=1" in panel.said.value


def test_controls_and_state_move_together(panel):
    panel.state.boundary = 1
    assert panel.state.boundary == "layer1"
    panel.knobs[0].value = 0.5
    assert panel.state.alpha == 0.5
    panel.state.method = "permute"
    assert [knob.layout.visibility for knob in panel.knobs] == ["hidden", "hidden"]
    assert done(panel).state.key() == Key("permute", "layer1")
    assert panel.state.as_dict()["method"] == "permute"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("boundary", "layer9", "nothing, layer1, layer2, layer3, all; got 'layer9'"),
        ("boundary", 7, "0 to 4"),
        ("alpha", 0, r"\(0, 1\]; got 0"),
        ("beta", "much", r"\[0, 1\]; got 'much'"),
        ("beta", True, "a number"),
        ("method", "glue", "'zip', 'permute', 'average'"),
        ("layer", "head", "one of layer1.0.conv1"),
        ("group", 99, "0 to 3, or None; got 99"),
        ("order", "random", "by group"),
    ],
)
def test_a_wrong_value_is_told_in_a_sentence(networks, tasks, batches, name, value, told):
    state = ZipState(study(networks, tasks, batches, None, "validation", None))
    before = getattr(state, name)
    with pytest.raises(StateError, match=told):
        setattr(state, name, value)
    assert getattr(state, name) == before


def test_networks_with_other_heads_cannot_be_zipped_to_the_end(networks, tasks, batches):
    panel = ZipWalk({"left": networks["left"], "right": net(1, EMBED + 1)}, tasks, batches)
    assert panel.study.boundaries == BOUNDARIES[:-1]


def test_what_is_missing_is_told(networks, tasks, batches):
    for given, told in [
        ((networks, tasks, None), "pass networks"),
        ((networks, None, batches), "pass networks"),
        ((list(networks.values()), tasks, batches), "{name: module}"),
        (({"left": networks["left"]}, tasks, batches), "two networks or more; got 1"),
        ((networks, {"left": tasks["left"]}, batches), "nothing to test right on"),
        ((networks, tasks, []), "batches is empty"),
        ((networks, tasks, iter(batches)), "not a generator"),
    ]:
        with pytest.raises(ValueError, match=told):
            ZipWalk(*given)


def test_what_zipit_refuses_is_told_in_the_panel(panel, monkeypatch):
    monkeypatch.delenv("MERGEKIT_NB_STRICT")

    def refuse(*_, **__):
        raise ValueError("these networks do not fit")

    monkeypatch.setattr("mergekit_nb.widgets.zipwalk.compute.zipit", refuse)
    panel.state.alpha = 0.7
    panel.state.boundary = "all"
    done(panel)
    assert panel.problem.value == "these networks do not fit"
    assert trace(panel.figure, "on show").visible is False


def test_cancel_works_within_a_second_and_half_a_point_is_no_point(networks, tasks, batches, monkeypatch):
    slow = lambda images: time.sleep(0.05) or scaled(images)  # noqa: E731
    panel = ZipWalk(networks, {name: replace(task, preprocess=slow) for name, task in tasks.items()}, batches)
    assert panel.looking.wait(SOON)
    monkeypatch.setattr("mergekit_nb.widgets.zipwalk.compute.BATCH", 1)
    panel.figure._drawn = True
    time.sleep(0.7)
    assert panel.run.description == "Cancel"
    began = time.monotonic()
    panel.run.click()
    assert panel.job.wait(SOON)
    assert time.monotonic() - began < 1
    assert panel.said.value.startswith("Cancelled.")
    assert not panel.known
    monkeypatch.undo()
    panel.run.click()
    assert panel.state.key() in done(panel).known


def test_zipping_is_cancelled_between_two_batches(networks, tasks, batches):
    cancel = threading.Event()
    panel = ZipWalk(networks, tasks, batches)
    seen = iter(Heeding(batches, cancel))
    next(seen)
    cancel.set()
    with pytest.raises(mk.Cancelled, match="the zip was cancelled after 1 of 4"):
        next(seen)
    with pytest.raises(mk.Cancelled):
        measured(panel.study, Key("zip", "layer1", 0.3, 0.125), cancel)


def test_nothing_is_measured_twice(panel, monkeypatch):
    panel.state.alpha = 0.5
    done(panel)
    monkeypatch.setattr("mergekit_nb.widgets.zipwalk.panel.measured", lambda *_: pytest.fail("measured again"))
    for boundary in BOUNDARIES:
        panel.state.boundary = boundary
        for alpha in (0.3, 0.5):
            panel.state.alpha = alpha
    assert panel.state.key() in done(panel).known


def test_the_latest_setting_wins(panel):
    panel.state.boundary = "layer1"
    for alpha in (0.5, 0.6, 0.7):
        panel.state.alpha = alpha
    panel.state.layer = "layer3"
    panel.state.layer = "layer2"
    done(panel)
    assert panel.state.key() in panel.known
    assert "alpha=0.7" in panel.said.value
    assert len(panel.matrix.data[0].x) == 12
    assert panel.about.value.startswith("<i>layer2</i>")


def test_the_readers_networks_are_not_touched(networks, tasks, batches):
    before = {name: {k: v.clone() for k, v in one.state_dict().items()} for name, one in networks.items()}
    shown(ZipWalk(networks, tasks, batches)).state.boundary = "all"
    for name, one in networks.items():
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in one.modules())
        assert all(torch.equal(before[name][k], v) for k, v in one.state_dict().items())


def test_measuring_and_looking_at_once_do_not_meet(networks, tasks, batches):
    panel = shown(ZipWalk(networks, tasks, batches))
    wanted, known = panel.study.correlations, panel.history()
    for _ in range(3):
        for kept in (panel.study._matched, panel.known):
            kept.clear()
        del panel.study.__dict__["correlations"], panel.study.__dict__["excited"]
        panel.look()
        panel.measure()
        done(panel)
        assert all(torch.equal(wanted[name], found) for name, found in panel.study.correlations.items())
        assert panel.history().equals(known)


def test_three_networks(networks, tasks, batches):
    extra = Task("third", ("x", "y"), "{}", tasks["left"].head[:2], net, lambda _: (
        tasks["left"].split("validation")[0][:10], torch.zeros(10, dtype=torch.int64)), scaled)  # fmt: skip
    panel = shown(ZipWalk({**networks, "third": net(4)}, {**tasks, "third": extra}, batches))
    panel.state.boundary = "layer2"
    assert len(done(panel).known[panel.state.key()].table) == 4
    panel.state.order = "as they are"
    assert list(panel.matrix.layout.xaxis.ticktext) == ["left", "right", "third"]


def test_headless_it_is_measured_when_it_is_made(networks, tasks, batches, monkeypatch):
    monkeypatch.setenv("MERGEKIT_NB_HEADLESS", "1")
    threads = threading.active_count()
    panel = ZipWalk(networks, tasks, batches)
    panel.state.boundary = "layer1"
    assert panel.state.key() in panel.known
    assert panel.sheet.value.startswith("<div")
    assert threading.active_count() == threads


def test_the_picture_shows_where_the_reader_stands(networks, tasks, batches):
    panel = ZipWalk(networks, tasks, batches)
    first = panel.png()
    second = shown(panel).png()
    panel.state.boundary = "layer2"
    third = done(panel).png()
    panel.state.layer = "layer3"
    fourth = done(panel).png()
    assert len({first, second, third, fourth}) == 4
    assert Image.open(io.BytesIO(third)).width >= 1200
    data, _ = panel._repr_mimebundle_()
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= data.keys()
