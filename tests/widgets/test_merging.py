import threading

import pytest
import torch

import mergekit_nb as mk
from mergekit_nb.methods import TaskArithmetic
from mergekit_nb.widgets import Merging
from mergekit_nb.widgets.merging import progress_text

SOON = 20  # seconds nothing here takes, even on a busy machine


def test_it_merges_and_says_so(base, experts, tmp_path):
    panel = Merging("emr", base, experts, out=tmp_path / "out")
    assert panel.wait(SOON)
    assert panel.bar.value == 1
    assert panel.text.value == "done: emr of mnist, svhn, cars"
    assert panel.cancel.disabled
    expected = mk.merge("emr", base, experts).weights("cars")
    assert all(torch.equal(panel.merged.weights("cars")[name], weight) for name, weight in expected.items())


class Patient(TaskArithmetic):
    """Task arithmetic that waits to be let on, at every tensor."""

    begun, go_on = threading.Event(), threading.Event()

    def merge(self, site, taus, totals):
        self.begun.set()
        assert self.go_on.wait(SOON)
        return super().merge(site, taus, totals)


def test_cancel_leaves_nothing(base, experts, tmp_path):
    panel = Merging(Patient(), base, experts, out=tmp_path / "out")
    assert Patient.begun.wait(SOON)
    panel.cancel.click()
    assert (panel.cancel.description, panel.cancel.disabled) == ("Cancelling …", True)
    Patient.go_on.set()
    assert panel.wait(SOON)
    assert panel.text.value == "cancelled: nothing was written"
    assert panel.merged is None
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_shown(base, experts):
    panel = Merging("ties", base, experts, density=20)
    assert panel.wait(SOON)
    assert isinstance(panel.error, ValueError)
    assert panel.text.value == "Ties.density is a fraction of entries kept, in [0, 1]; got 20; did you mean 0.2?"
    assert "mk-problem" in panel.text._dom_classes


def test_no_rate_of_what_a_killed_run_had_done_and_of_the_start(base, experts, monkeypatch):
    panel = Merging("average", base, experts)
    assert panel.wait(SOON)
    panel._seen.clear()
    clock = iter([0.0, 0.01, 3.0, 3.05, 4.0, 5.0])
    monkeypatch.setattr("mergekit_nb.widgets.merging.time.monotonic", lambda: next(clock))
    said = []
    for done in (0, 700, 800, 850, 900, 900):  # of 700 it is found at once that they are done
        panel._show(done, 1000, "")
        said.append(panel.text.value)
    assert said == ["0 B of 1 kB"] * 2 + ["800 B of 1 kB"] * 2 + ["900 B of 1 kB · 100 B/s · 00:01 left"] * 2


@pytest.mark.parametrize(("speed", "text"), [(0.0, "1.5 GB of 3 GB"), (5e8, "1.5 GB of 3 GB · 500 MB/s · 00:03 left")])
def test_progress_in_words(speed, text):
    assert progress_text(1_500_000_000, 3_000_000_000, speed) == text
