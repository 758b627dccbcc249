"""What a merge holds at once: the task vectors of one tensor, however many tensors the model has."""

from __future__ import annotations

import weakref

import pytest
import torch

import mergekit_nb as mk


def most_alive(monkeypatch, method, tensors):
    """The most bytes of task vectors that were alive at once, in merging so many tensors."""
    alive, most = [0], [0]
    original = mk.TaskVectors.differences

    def counted(self, *args, **kwargs):
        stack = original(self, *args, **kwargs)
        size = stack.untyped_storage().nbytes()
        alive[0] += size
        most[0] = max(most[0], alive[0])
        weakref.finalize(stack, lambda: alive.__setitem__(0, alive[0] - size))
        return stack

    noise = torch.Generator().manual_seed(0)
    base = {f"w{i}": torch.randn(40, 50, generator=noise) for i in range(tensors)}
    experts = {t: {n: w + 0.1 * torch.randn(w.shape, generator=noise) for n, w in base.items()} for t in "abc"}
    with monkeypatch.context() as patched:
        patched.setattr(mk.TaskVectors, "differences", counted)
        mk.merge(method, base, experts)
    return most[0]


@pytest.mark.parametrize("method", ["pcb", "ties", "emr"])
def test_many_tensors_hold_no_more_task_vectors_than_one(monkeypatch, method):
    one, many = (most_alive(monkeypatch, method, tensors) for tensors in (1, 12))
    assert one == 3 * 40 * 50 * 4
    assert many <= 2 * one  # the next may be made before the last is let go
