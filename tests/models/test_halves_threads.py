"""Cutting a network in one thread leaves alone what others do with theirs, and torch as it was."""

import threading

import torch
from torch import nn

from mergekit_nb.models.halves import graph_of


class Cuts(nn.Module):
    """Slow to trace: while it is traced, `meanwhile` is run in another thread."""

    def __init__(self, meanwhile):
        super().__init__()
        self.layer, self.meanwhile = nn.Linear(3, 3), meanwhile

    def forward(self, x):
        x = self.layer(x)
        self.meanwhile()
        return x


def elsewhere(work):
    """Run something in another thread and hand back what it gave or raised."""
    found = []

    def run():
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def test_another_thread_may_run_its_networks_meanwhile():
    other, x, seen = nn.Sequential(nn.Linear(3, 2)), torch.ones(1, 3), []

    def meanwhile():
        thread, found = elsewhere(lambda: other(x))
        thread.join()
        seen.extend(found)

    graph = graph_of(Cuts(meanwhile), x)
    assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_module", "output"]
    assert torch.equal(seen[0], other(x))


def test_two_threads_that_cut_leave_torch_as_it_was():
    call, x, threads = nn.Module.__call__, torch.ones(1, 3), []
    graph_of(Cuts(lambda: threads.append(elsewhere(lambda: graph_of(nn.Sequential(nn.Linear(3, 2)), x)))), x)
    thread, found = threads[0]
    thread.join()
    assert isinstance(found[0], nn.Module)
    assert nn.Module.__call__ is call
