"""How each operation hands features on: which axes of its inputs must move together, and what its output's axes are.

The operations are those that PyTorch itself runs (ATen), below modules, functions and methods; there are far fewer of them.
A rule sees the call's arguments by name and gives the axes of the output, or of each output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mergekit_nb.models.features import Axis, fix, fixed, free, part, size, unite, unite_groups
from mergekit_nb.models.reshaping import Dims, extent, picked, reshaped, settled

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
        self._lookup, self.is_weight = lookup, is_weight

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def loose(self, name: str) -> Dims:
        """The axes of an argument, those seen as several still undecided."""
        return self._lookup(self.given[name])

    def dims(self, name: str) -> tuple[Axis, ...]:
        """The axes of an argument."""
        return settled(self.loose(name))

    def all_dims(self, tensors: Sequence[Tensor]) -> list[tuple[Axis, ...]]:
        """The axes of several tensors."""
        return [settled(self._lookup(tensor)) for tensor in tensors]

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


# ---- entry by entry


@rule("hardswish", "hardsigmoid", "_prelu_kernel", "copy", "rrelu_with_noise", "bernoulli", made=True)
def pointwise(call: Call) -> Dims:
    """Entries meet entries, broadcast: relu, add, mul, where …"""
    tensors = [t for t in _tensors(call.given) if t.ndim or not call.out.ndim]
    if len(tensors) == 1:
        return call._lookup(tensors[0]) if tensors[0].shape == call.out.shape else call.all_dims(tensors)[0]
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


@rule("clone", "detach", "alias", "_to_copy", "lift_fresh", "contiguous", "_conj", "native_dropout", "view_as_real")
def same(call: Call) -> Any:
    """The first argument's axes."""
    first = next(iter(call.given.values()))
    return (call._lookup(first),) * len(call.out) if isinstance(call.out, tuple | list) else call._lookup(first)


@rule("_softmax", "_log_softmax", "_safe_softmax")
def softmax(call: Call) -> Dims:
    """Among the features of one axis: what comes in moved goes out moved."""
    return call.dims("self")


@rule("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full",
      "scalar_tensor", "empty_like", "new_empty")  # fmt: skip
def uniform(call: Call) -> Dims:
    """One number everywhere: it is the same in any order."""
    return tuple(free(length) for length in call.out.shape)


@rule("zero", "fill")
def filled(call: Call) -> Dims:
    """The same, in place."""
    return uniform(call)


# ---- weight matrices


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
        for axis, other in zip(reversed(settled(call._lookup(bias))), reversed(settled(made)), strict=False):
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


# ---- norms


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
      "miopen_batch_norm", "batch_norm", made=True)  # fmt: skip
def batch_norm(call: Call) -> Any:
    """A shift and a scale per feature of axis 1, and its statistics."""
    x = call.dims("input")
    for name in ("weight", "bias", "running_mean", "running_var"):
        if call.given.get(name) is not None:
            _scale(call, name, x[1])
    return _outputs(call, x)


@rule("native_layer_norm", "_fused_rms_norm", made=True)
def layer_norm(call: Call) -> Any:
    """Over the last axes; mean and spread do not ask in which order the features are."""
    x, count = call.dims("input"), len(call["normalized_shape"])
    for name in ("weight", "bias"):
        if call.given.get(name) is not None:
            for axis, own in zip(x[-count:], call.dims(name), strict=True):
                call.mark(call[name], own, "scales")
                unite(axis, own)
    return _outputs(call, x)


@rule("native_group_norm", made=True)
def group_norm(call: Call) -> Any:
    """Groups of axis 1 trade places as wholes."""
    x = call.dims("input")
    if call["group"] > 1:
        unite_groups(x[1], free(call["group"]), call["group"])
    for name in ("weight", "bias"):
        if call.given.get(name) is not None:
            _scale(call, name, x[1])
    return _outputs(call, x)


def _scale(call: Call, name: str, axis: Axis) -> None:
    own = call.dims(name)[0]
    call.mark(call[name], own, "scales")
    unite(axis, own)


def _outputs(call: Call, first: Dims) -> Any:
    if isinstance(call.out, Tensor):
        return first
    return (first, *(tuple(fixed(length) for length in other.shape) for other in call.out[1:]))


# ---- fewer entries


@rule("mean", "sum", "amax", "amin", "var", "std", "logsumexp", "linalg_vector_norm", "norm", "prod", "max", "min", "any",
      "all", "var_mean")  # fmt: skip
def reduction(call: Call) -> Any:
    """Over some axes, or all; in which order does not matter."""
    name = "self" if "self" in call.given else "x"
    dims, over = call.dims(name), call.given.get("dim")
    if isinstance(call.out, tuple | list) and call.name in ("max", "min"):
        return indexed(call)
    if isinstance(call.given.get("other"), Tensor):
        return pointwise(call)
    over = range(len(dims)) if over is None or over == [] else [over] if isinstance(over, int) else over
    gone = {at % len(dims) for at in over} if dims else set()
    kept = call.given.get("keepdim", False)
    made = tuple(fixed(1) if at in gone else dim for at, dim in enumerate(dims) if kept or at not in gone)
    return (made,) * len(call.out) if isinstance(call.out, tuple | list) else made


@rule("argmax", "argmin", "sort", "topk", "cumsum", "cumprod", "flip", "roll", "index_select", "gather", "scatter",
      "tril", "triu")  # fmt: skip
def indexed(call: Call) -> Any:
    """Entries are asked for by their place: along those axes nothing may move."""
    dims = call.dims("self")
    named = call.given.get("dim", call.given.get("dims"))
    over = range(len(dims)) if named is None or call.name in ("gather", "scatter") else named
    over = {at % len(dims) for at in ([over] if isinstance(over, int) else over)} if dims else set()
    for at in over:
        fix(dims[at])
    outs = call.out if isinstance(call.out, tuple | list) else [call.out]
    made = tuple(_after(out, dims, over) for out in outs)
    return made if isinstance(call.out, tuple | list) else made[0]


def _after(out: Tensor, dims: tuple[Axis, ...], over: set[int]) -> Dims:
    if out.ndim == len(dims):
        return tuple(fixed(out.shape[at]) if at in over else dim for at, dim in enumerate(dims))
    return tuple(dim for at, dim in enumerate(dims) if at not in over)


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d",
      "_adaptive_avg_pool3d", "adaptive_max_pool2d", "upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d",
      "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "reflection_pad1d",
      "reflection_pad2d", "replication_pad2d")  # fmt: skip
def spatial(call: Call) -> Any:
    """The last axes are a grid of places; the features before them pass."""
    count = int(next(letter for letter in call.name if letter in "123"))
    dims = call.dims("self" if "self" in call.given else "input")
    for axis in dims[-count:]:
        fix(axis)
    outs = call.out if isinstance(call.out, tuple | list) else [call.out]
    made = tuple((*dims[:-count], *(fixed(length) for length in out.shape[-count:])) for out in outs)
    return made if isinstance(call.out, tuple | list) else made[0]


# ---- views


@rule("view", "_unsafe_view", "reshape", "_reshape_alias")
def view(call: Call) -> Dims:
    """Another shape."""
    return reshaped(call.loose("self"), call.out.shape)


@rule("as_strided")
def as_strided(call: Call) -> Dims:
    """Another layout in memory; where it shows other entries, nothing may move."""
    own, out = call["self"], call.out
    lined = [(a, b) for n, a, b in zip(own.shape, own.stride(), out.stride(), strict=False) if n > 1]
    if own.shape == out.shape and all(a == b for a, b in lined) and own.storage_offset() == out.storage_offset():
        return call.loose("self")
    for axis in call.dims("self"):
        fix(axis)
    return tuple(map(fixed, out.shape))


@rule("permute")
def permute(call: Call) -> Dims:
    """Another order of the axes."""
    dims = call.loose("self")
    return tuple(dims[at] for at in call["dims"])


@rule("transpose", "t")
def transpose(call: Call) -> Dims:
    """Two axes swapped."""
    dims = list(call.loose("self"))
    if len(dims) > 1:
        a, b = call.given.get("dim0", 0), call.given.get("dim1", 1)
        dims[a], dims[b] = dims[b], dims[a]
    return tuple(dims)


@rule("expand")
def expand(call: Call) -> Dims:
    """Axes of length one, stretched: the same entry everywhere, so in any order."""
    shape, dims = call.out.shape, call.loose("self")
    new = len(shape) - len(dims)
    stretched = [free(length) for length in shape[:new]]
    return (*stretched, *(d if extent(d) == n else free(n) for d, n in zip(dims, shape[new:], strict=True)))


@rule("repeat")
def repeat(call: Call) -> Dims:
    """Axes, several times over."""
    dims, times = call.dims("self"), call["repeats"]
    dims = (*(fixed(1) for _ in range(len(times) - len(dims))), *dims)
    return tuple((free(n) if size(axis) == 1 and n > 1 else axis * n) for axis, n in zip(dims, times, strict=True))


@rule("unsqueeze")
def unsqueeze(call: Call) -> Dims:
    """A new axis of length one."""
    dims = call.loose("self")
    at = call["dim"] % (len(dims) + 1)
    return (*dims[:at], fixed(1), *dims[at:])


@rule("squeeze")
def squeeze(call: Call) -> Dims:
    """Axes of length one are dropped."""
    dims, named = call.loose("self"), call.given.get("dim")
    named = range(len(dims)) if named is None else [named] if isinstance(named, int) else named
    gone = {at % len(dims) for at in named} if dims else set()
    return tuple(dim for at, dim in enumerate(dims) if not (at in gone and extent(dim) == 1))


@rule("select")
def select(call: Call) -> Dims:
    """One entry of an axis, which is dropped."""
    dims = call.loose("self")
    at = call["dim"] % len(dims)
    index = call["index"] % extent(dims[at])
    made = picked(dims, at, index, index + 1)
    return (*made[:at], *made[at + 1 :])


@rule("slice")
def slice_(call: Call) -> Dims:
    """A stretch of an axis."""
    dims = call.loose("self")
    at = call["dim"] % len(dims)
    if call["step"] != 1:
        dims = settled(dims)
        fix(dims[at])
        return (*dims[:at], fixed(call.out.shape[at]), *dims[at + 1 :])
    start, stop, _ = slice(call["start"], call["end"]).indices(extent(dims[at]))
    return picked(dims, at, start, max(start, stop))


@rule("split", "split_with_sizes", "unbind")
def pieces(call: Call) -> list[Dims]:
    """An axis cut into pieces; of `unbind` each is one entry, and the axis is dropped."""
    dims = call.loose("self")
    at = call["dim"] % len(dims)
    made, start = [], 0
    for out in call.out:
        length = 1 if call.name == "unbind" else out.shape[at]
        piece = picked(dims, at, start, start + length)
        made.append((*piece[:at], *piece[at + 1 :]) if call.name == "unbind" else piece)
        start += length
    return made


@rule("cat", made=True)
def cat(call: Call) -> Dims:
    """One behind the other along an axis; the other axes are shared."""
    tensors = [t for t in call["tensors"] if t.numel()]  # an empty one is let pass, whatever its shape
    every = call.all_dims(tensors)
    at = call["dim"] % len(every[0])
    for dims in every[1:]:
        for place, (one, two) in enumerate(zip(every[0], dims, strict=True)):
            if place != at:
                unite(one, two)
    joined = tuple(run for dims in every for run in dims[at])
    return (*every[0][:at], joined, *every[0][at + 1 :])


@rule("stack")
def stack(call: Call) -> Dims:
    """Side by side along a new axis."""
    every = call.all_dims(call["tensors"])
    for dims in every[1:]:
        for one, two in zip(every[0], dims, strict=True):
            unite(one, two)
    at = call["dim"] % (len(every[0]) + 1)
    return (*every[0][:at], fixed(len(every)), *every[0][at:])


@rule("constant_pad_nd")
def pad(call: Call) -> Dims:
    """A constant before and behind: entries that are the same in any order."""
    dims, padding = list(call.dims("self")), call["pad"]
    for place in range(len(padding) // 2):
        before, behind = padding[2 * place], padding[2 * place + 1]
        at = len(dims) - 1 - place
        kept = part(dims[at], max(0, -before), size(dims[at]) - max(0, -behind))
        dims[at] = (*_filled(before), *kept, *_filled(behind))
    return tuple(dims)


def _filled(count: int) -> Axis:
    return free(count) if count > 0 else ()


@rule("index")
def index(call: Call) -> Dims:
    """Entries by tables of places: `x[arange(n), best]`."""
    dims, tables = list(call.dims("self")), call["indices"]
    named = [at for at, table in enumerate(tables) if table is not None]
    for at in named:
        fix(dims[at])
    others = [dim for at, dim in enumerate(dims) if at not in named]
    count = call.out.ndim - len(others)
    front = named[0] if named == list(range(named[0], named[-1] + 1)) else 0
    shape = call.out.shape[front : front + count]
    return (*others[:front], *(fixed(length) for length in shape), *others[front:])


def known(name: str, tags: Sequence[torch.Tag]) -> Rule | None:
    """The rule of an operation, if it has one."""
    return RULES.get(name) or (pointwise if torch.Tag.pointwise in tags else None)


def is_arithmetic(name: str) -> bool:
    """Whether what an operation gives is worth measuring."""
    return name in MADE or name not in RULES
