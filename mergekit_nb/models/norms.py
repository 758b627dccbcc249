"""Rules of norms, means, pools and whatever else makes statistics of entries or asks for them by their place."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mergekit_nb.models.features import Axis, fix, fixed, free, unite, unite_groups
from mergekit_nb.models.operations import Call, pointwise, rule
from mergekit_nb.models.reshaping import Dims


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
      "_batch_norm_no_update", "miopen_batch_norm", "batch_norm", made=True)  # fmt: skip
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


@rule(
    "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d", "upsample_nearest1d", "upsample_nearest2d",
    "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "reflection_pad1d", "reflection_pad2d", "replication_pad2d",
)  # fmt: skip
def spatial(call: Call) -> Any:
    """The last axes are a grid of places; the features before them pass."""
    count = int(next(letter for letter in call.name if letter in "123"))
    dims = call.dims("self" if "self" in call.given else "input")
    for axis in dims[-count:]:
        fix(axis)
    outs = call.out if isinstance(call.out, tuple | list) else [call.out]
    made = tuple((*dims[:-count], *(fixed(length) for length in out.shape[-count:])) for out in outs)
    return made if isinstance(call.out, tuple | list) else made[0]
