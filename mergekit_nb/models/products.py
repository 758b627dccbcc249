"""Rules of what multiplies and sums: matrices, embeddings, convolutions."""

from __future__ import annotations

from torch import Tensor

from mergekit_nb.models.features import Axis, fix, fixed, free, size, unite, unite_groups
from mergekit_nb.models.operations import Call, rule
from mergekit_nb.models.reshaping import Dims, settled


def contract(call: Call, one: Tensor, a: Axis, two: Tensor, b: Axis) -> None:
    """Two axes that are multiplied and summed over."""
    call.mark(one, a, "reads")
    call.mark(two, b, "reads")
    unite(a, b)


def _product(call: Call, one: str, two: str) -> Dims:
    a, b = call.dims(one), call.dims(two)
    contract(call, call[one], a[-1], call[two], b[-2])
    for left, right in zip(a[:-2], b[:-2], strict=True):
        unite(left, right)
    for weight, axis in ((call[one], a[-2]), (call[two], b[-1])):
        call.mark(weight, axis, "writes")
    return (*a[:-1], b[-1])


@rule("mm", "bmm", made=True)
def matrices(call: Call) -> Dims:
    """Matrix products, of batches or not."""
    return _product(call, "self", "mat2")


@rule("addmm", "baddbmm", made=True)
def affine(call: Call) -> Dims:
    """The same, and something added."""
    one, two = ("mat1", "mat2") if call.name == "addmm" else ("batch1", "batch2")
    return add_bias(call, _product(call, one, two), call["self"])


def add_bias(call: Call, made: Dims, bias: Tensor | None) -> Dims:
    """What is added to the last axes of a product."""
    if bias is not None:
        for axis, other in zip(reversed(settled(call.axes_of(bias))), reversed(settled(made)), strict=False):
            if size(axis) != 1:
                call.mark(bias, axis, "writes")
                unite(axis, other)
    return made


@rule("mv", made=True)
def matrix_vector(call: Call) -> Dims:
    """A matrix times a vector."""
    a, b = call.dims("self"), call.dims("vec")
    contract(call, call["self"], a[1], call["vec"], b[0])
    call.mark(call["self"], a[0], "writes")
    return (a[0],)


@rule("dot", made=True)
def dot(call: Call) -> Dims:
    """Two vectors, summed."""
    contract(call, call["self"], call.dims("self")[0], call["tensor"], call.dims("tensor")[0])
    return ()


@rule("linear", made=True)
def linear(call: Call) -> Dims:
    """Where PyTorch does not take it apart."""
    x, w = call.dims("input"), call.dims("weight")
    contract(call, call["input"], x[-1], call["weight"], w[1])
    call.mark(call["weight"], w[0], "writes")
    return add_bias(call, (*x[:-1], w[0]), call["bias"])


@rule("embedding")
def embedding(call: Call) -> Dims:
    """Rows of a table, by number."""
    table = call.dims("weight")
    fix(table[0])
    call.mark(call["weight"], table[1], "writes")
    return (*call.loose("indices"), table[1])


@rule("convolution", made=True)
def convolution(call: Call) -> Dims:
    """Dense, grouped and depthwise; groups move as blocks, and their kernels with them."""
    x, w, groups = call.dims("input"), call.dims("weight"), call["groups"]
    weight = call["weight"]
    into, out = (w[0], w[1]) if call["transposed"] else (w[1], w[0])
    for axis in (*x[2:], *w[2:]):
        fix(axis)
    if groups == 1:
        contract(call, call["input"], x[1], weight, into)
        call.mark(weight, out, "writes")
    else:
        fix(w[1])  # inside a group all stays: other groups have other kernels there
        call.mark(weight, w[0], "scales")
        unite_groups(x[1], w[0], groups)
        out = _grouped(w[0], w[1], groups) if call["transposed"] else w[0]
    if call["bias"] is not None:
        bias = call.dims("bias")[0]
        call.mark(call["bias"], bias, "scales" if groups > 1 else "writes")
        unite(bias, out)
    return (x[0], out, *(fixed(length) for length in call.out.shape[2:]))


def _grouped(into: Axis, each: Axis, groups: int) -> Axis:
    """The output axis of a transposed convolution, as many entries a group as its kernel has."""
    out = free(size(each) * groups)
    unite_groups(into, out, groups)
    return out
