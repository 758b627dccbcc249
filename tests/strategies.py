"""What hypothesis may draw: methods with hyper-parameters from their own knobs, and small models."""

from __future__ import annotations

from typing import get_args

import torch
from hypothesis import reject
from hypothesis import strategies as st

from mergekit_nb.methods import METHODS
from mergekit_nb.methods.base import Method, _choices, _hints

SHAPES = [(), (1,), (5,), (3, 4), (2, 3, 2)]
FINE = 65536
WITHIN = {  # where a narrower range than the knob's says more: tensors are small, and fast Adam ends where rounding leads it
    ("cabs", "n"): (1, 4), ("cabs", "m"): (1, 6), ("wudi", "iterations"): (0, 300), ("wudi", "rate"): (0, 1e-3),
    ("karcher", "iterations"): (0, 40), ("karcher", "tolerance"): (0, 1e-3),
}  # fmt: skip
GRID = 64  # entries are multiples of 1/64: sums of a few are exact, so a tie is a tie in any order


@st.composite
def methods(draw, cls: type[Method] | None = None) -> Method:
    """A registered method, every knob somewhere in its range and every choice taken."""
    cls = cls or draw(st.sampled_from(list(METHODS.values())))
    options = {}
    for name, hint in _hints(cls).items():
        knob = cls.knobs().get(name)
        if knob:
            low, high = WITHIN.get((cls.name, name), (knob.low, knob.high))
            drawn = low + (high - low) * draw(st.integers(0, 20)) / 20
            options[name] = round(drawn) if int in get_args(hint) else drawn
        elif _choices(hint):
            options[name] = draw(st.sampled_from(_choices(hint)))
    try:
        return cls(**options)
    except ValueError:  # some numbers only go together: each is in its range
        reject()


def numbers(limit: int = 2) -> st.SearchStrategy[float]:
    """Multiples of 1/64 in [-limit, limit], zero often among them."""
    return st.one_of(st.just(0.0), st.integers(-limit * GRID, limit * GRID).map(lambda i: i / GRID))


@st.composite
def tensors(draw, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """One tensor of grid numbers."""
    size = int(torch.tensor(shape).prod()) if shape else 1
    values = draw(st.lists(numbers(), min_size=size, max_size=size))
    return torch.tensor(values, dtype=dtype).reshape(shape)


@st.composite
def generic(draw, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor in general position: no two singular values equal. On a finer grid, so that sums of a few stay exact."""
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    return (torch.randint(-2 * FINE, 2 * FINE + 1, shape, generator=noise) / FINE).to(dtype)


def cases(cls: type[Method] | None = None, dtype: torch.dtype = torch.float32, least: int = 1, **having):
    """A method, and models it can merge: as many experts as it takes, in general position where it needs that.

    `having`: what the method's class must say of itself, `symmetric=True` for one.
    """
    classes = [cls] if cls else [c for c in METHODS.values() if all(getattr(c, k) == v for k, v in having.items())]
    return st.sampled_from(classes).flatmap(
        lambda c: st.tuples(methods(c), models(dtype, max(least, c.experts[0]), c.experts[1] or 4, c.generic))
    )


@st.composite
def models(
    draw, dtype: torch.dtype = torch.float32, least: int = 1, most: int = 4, in_general_position: bool = False
) -> tuple[dict, dict]:
    """A base and `least` to `most` experts: one to three tensors, an integer buffer, sometimes an expert equal to the base."""
    drawn = generic if in_general_position else tensors
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    base = {f"blocks.{i}.w": draw(drawn(shape, dtype)) for i, shape in enumerate(shapes)}
    base["steps"] = torch.tensor(3)
    experts = {}
    for t in range(draw(st.integers(least, most))):
        same = draw(st.integers(0, 5)) == 0
        tuned = {
            n: w.clone() if same else w + draw(drawn(tuple(w.shape), dtype)) for n, w in base.items() if n != "steps"
        }
        experts[f"task{t}"] = {**tuned, "steps": torch.tensor(t)}
    return base, experts
