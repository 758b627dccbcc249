import threading
import time

import pytest

from mergekit_nb.progress import Cancelled
from mergekit_nb.widgets.job import Job

SOON = 5  # seconds nothing here takes, even on a busy machine


class Record:
    """A job that counts to the number asked for, and what came of it."""

    def __init__(self, pause: float = 0.0, interval: float = 0.0):
        self.shown, self.outcomes, self.threads, self.pause = [], [], set(), pause
        self.job = Job(self.work, self.shown.append, self.outcomes.append, interval)

    def work(self, request, cancel):
        self.threads.add(threading.current_thread())
        if request == "fail":
            raise RuntimeError("no such model")
        for step in range(request):
            time.sleep(self.pause)
            if request == 77 and cancel.is_set():
                raise Cancelled("heard")
            yield request, step


def test_work_runs_elsewhere_and_is_finished():
    record = Record()
    record.job.submit(3)
    assert record.job.wait(SOON)
    assert record.shown == [(3, 0), (3, 1), (3, 2)]
    assert record.outcomes == ["done"]
    assert threading.current_thread() not in record.threads


def test_the_latest_request_wins():
    record = Record(pause=0.02)
    for request in (1000, 2000, 3000, 5):
        record.job.submit(request)
        time.sleep(0.05)
    assert record.job.wait(SOON)
    assert record.shown[-1] == (5, 4)
    assert record.outcomes == ["done"], "what was overtaken is not reported as finished"


@pytest.mark.parametrize("request_", [1000, 77])
def test_cancel_is_heard_within_a_second(request_):
    record = Record(pause=0.02)
    record.job.submit(request_)
    time.sleep(0.1)
    began = time.monotonic()
    record.job.cancel()
    assert record.job.wait(SOON)
    assert time.monotonic() - began < 1
    assert record.outcomes == ["cancelled"]


def test_a_job_can_be_used_again_after_cancel_and_failure():
    record = Record(pause=0.01)
    for request in (1000, "fail", 2):
        record.job.submit(request)
        time.sleep(0.05)
        if request == 1000:
            record.job.cancel()
        assert record.job.wait(SOON)
    assert record.outcomes[0] == "cancelled"
    assert str(record.outcomes[1]) == "no such model"
    assert record.outcomes[2] == "done"


def test_partial_results_are_throttled_and_the_last_one_is_shown():
    record = Record(pause=0.005, interval=0.1)
    record.job.submit(60)
    assert record.job.wait(SOON)
    assert len(record.shown) < 30
    assert record.shown[-1] == (60, 59)


def test_headless_work_is_done_when_submit_returns(monkeypatch):
    monkeypatch.setenv("MERGEKIT_NB_HEADLESS", "1")
    record = Record()
    record.job.submit(3)
    assert record.outcomes == ["done"]
    assert record.threads == {threading.current_thread()}


def test_waiting_too_briefly_says_so():
    record = Record(pause=0.2)
    record.job.submit(3)
    assert not record.job.wait(0.01)
    record.job.cancel()
    assert record.job.wait(SOON)
