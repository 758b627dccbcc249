"""Rules of what moves entries about and leaves them as they are."""

from __future__ import annotations

from mergekit_nb.models.features import Axis, fix, fixed, free, part, size, unite
from mergekit_nb.models.operations import Call, rule
from mergekit_nb.models.reshaping import Dims, extent, picked, reshaped, settled, split


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


@rule("pixel_shuffle")
def pixel_shuffle(call: Call) -> Dims:
    """Runs of features laid out over neighbouring places."""
    *front, axis, high, wide = call.dims("self")
    for place in (high, wide):
        fix(place)
    kept = settled((split(axis, (call.out.shape[-3], call["upscale_factor"] ** 2))[0],))
    return (*front, *kept, *(fixed(length) for length in call.out.shape[-2:]))


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


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "unbind")
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
