"""How each operation hands features on: which axes of its inputs must move together, and what its output's axes are.

The operations are those that PyTorch itself runs (ATen), below modules, functions and methods; there are far fewer of them.
A rule sees the call's arguments by name and gives the axes of the output, or of each output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mergekit_nb.models.features import Axis, free, part, size, unite
from mergekit_nb.models.reshaping import Dims, settled

Rule = Callable[["Call"], Any]
RULES: dict[str, Rule] = {}
MADE: set[str] = set()  # operations after which features are worth measuring: arithmetic, not views, pools and means


class Call:
    """One operation as it is run.

    Attributes:
        name: its name in ATen, without the overload, and without the underscore of one that works in place.
        out: what it gave.
        is_weight: whether a tensor comes from parameters alone.
    """

    def __init__(
        self,
        name: str,
        given: Mapping[str, Any],
        out: Any,
        lookup: Callable[[Tensor], Dims],
        is_weight: Callable[[Tensor], bool],
    ):
        self.name, self.given, self.out = name, given, out
        self.axes_of, self.is_weight = lookup, is_weight

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def loose(self, name: str) -> Dims:
        """The axes of an argument, those seen as several still undecided."""
        return self.axes_of(self.given[name])

    def dims(self, name: str) -> tuple[Axis, ...]:
        """The axes of an argument."""
        return settled(self.loose(name))

    def all_dims(self, tensors: Sequence[Tensor]) -> list[tuple[Axis, ...]]:
        """The axes of several tensors."""
        return [settled(self.axes_of(tensor)) for tensor in tensors]

    def mark(self, tensor: Any, axis: Axis, role: str) -> None:
        """Note what a parameter does with the features of an axis, unless it was noted before."""
        for run in axis if self.is_weight(tensor) else ():
            if run.features is not None:
                run.features.role = run.features.role or role


def rule(*names: str, made: bool = False) -> Callable[[Rule], Rule]:
    """Enter a rule for operations of these names."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        MADE.update(names if made else ())
        return function

    return enter


def known(name: str, tags: Sequence[torch.Tag]) -> Rule | None:
    """The rule of an operation, if it has one."""
    return RULES.get(name) or (pointwise if torch.Tag.pointwise in tags else None)


def is_arithmetic(name: str) -> bool:
    """Whether what an operation gives is worth measuring."""
    return name in MADE or name not in RULES


@rule("hardswish", "hardsigmoid", "_prelu_kernel", "copy", "rrelu_with_noise", "bernoulli", made=True)
def pointwise(call: Call) -> Dims:
    """Entries meet entries, broadcast: relu, add, mul, where …"""
    tensors = [t for t in _tensors(call.given) if t.ndim or not call.out.ndim]
    if len(tensors) == 1:
        return call.axes_of(tensors[0]) if tensors[0].shape == call.out.shape else call.all_dims(tensors)[0]
    role = "scales" if call.name in ("mul", "div", "_prelu_kernel") else "writes"
    return broadcast(call, tensors, role)


def broadcast(call: Call, tensors: Sequence[Tensor], role: str) -> Dims:
    """The axes of several tensors that meet, right-aligned; axes of length one are stretched."""
    every = call.all_dims(tensors)
    live = any(not call.is_weight(tensor) for tensor in tensors)
    made: list[Axis] = []
    for place in range(1, max(map(len, every)) + 1):
        meeting = [(t, dims[-place]) for t, dims in zip(tensors, every, strict=True) if len(dims) >= place]
        wide = [(t, axis) for t, axis in meeting if size(axis) != 1] or meeting[:1]
        for tensor, axis in wide if live else ():
            call.mark(tensor, axis, role)
        for _, axis in wide[1:]:
            unite(wide[0][1], axis)
        made.insert(0, wide[0][1])
    return tuple(made)


def _tensors(given: Mapping[str, Any]) -> list[Tensor]:
    return [value for value in given.values() if isinstance(value, Tensor)]


@rule("clone", "detach", "alias", "_to_copy", "lift_fresh", "contiguous", "native_dropout")
def same(call: Call) -> Any:
    """The first argument's axes."""
    first = next(iter(call.given.values()))
    return (call.axes_of(first),) * len(call.out) if isinstance(call.out, tuple | list) else call.axes_of(first)


@rule("_softmax", "_log_softmax", "_safe_softmax")
def softmax(call: Call) -> Dims:
    """Among the features of one axis: what comes in moved goes out moved."""
    return call.dims("self")


@rule("glu", made=True)
def glu(call: Call) -> Dims:
    """One half of an axis times a gate made of the other."""
    dims = call.dims("self")
    at = call["dim"] % len(dims)
    half = size(dims[at]) // 2
    first, second = part(dims[at], 0, half), part(dims[at], half, 2 * half)
    unite(first, second)
    return (*dims[:at], first, *dims[at + 1 :])


@rule("_weight_norm_interface")
def weight_norm(call: Call) -> Any:
    """Directions times lengths, one length for every entry of one axis."""
    v, g = call.dims("v"), call.dims("g")
    unite(v[call["dim"]], g[call["dim"]])
    return v, g


@rule("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full",
      "scalar_tensor", "empty_like", "new_empty")  # fmt: skip
def uniform(call: Call) -> Dims:
    """One number everywhere: it is the same in any order."""
    return tuple(free(length) for length in call.out.shape)


@rule("zero", "fill")
def filled(call: Call) -> Dims:
    """The same, in place."""
    return uniform(call)
