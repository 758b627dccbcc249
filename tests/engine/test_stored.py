"""What is stored: rounded once, the same by the compiled loop, refused where the dtype cannot hold it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import mergekit_nb as mk
from mergekit_nb.engine import fast
from mergekit_nb.engine.stored import stored
from mergekit_nb.methods import Emr
from mergekit_nb.weights.rooms import ROOMS

DTYPES = [torch.float32, torch.bfloat16]


def numbers(size: int, seed: int) -> torch.Tensor:
    """Float32 of all magnitudes, zeros of both signs, and numbers half-way between two bfloat16."""
    g = torch.Generator().manual_seed(seed)
    wide = torch.randn(size, generator=g) * 2.0 ** torch.randint(-149, 100, (size,), generator=g)
    halves = (torch.randint(-(2**14), 2**14, (size,), generator=g) << 16 | 0x8000).to(torch.int32).view(torch.float32)
    chosen = torch.randint(0, 4, (size,), generator=g)
    return torch.stack([wide, halves.nan_to_num(1, 1, -1).clamp(-1e30, 1e30), torch.zeros(size), -torch.zeros(size)])[
        chosen, torch.arange(size)
    ]


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.view(torch.int16 if x.dtype == torch.bfloat16 else torch.int32)


@pytest.mark.parametrize(  # base and vector together are the model, in its own dtype
    ("adding", "base_dtype", "dtype"),
    [(True, dtype, dtype) for dtype in DTYPES] + [(False, base, dtype) for base in DTYPES for dtype in DTYPES],
)
@settings(max_examples=15)
@given(size=st.sampled_from([1, 2047, 2048, 5001]), seed=st.integers(0, 999))
def test_the_compiled_loop_stores_the_same_bits(adding, base_dtype, dtype, size, seed):
    base, vector = numbers(size, seed).to(base_dtype), numbers(size, seed + 1)
    plain = stored(Emr(), "w", base, vector, dtype, adding, False)
    compiled = stored(Emr(), "w", base, vector.clone(), dtype, adding, True)
    assert compiled.dtype == plain.dtype == dtype
    assert torch.equal(bits(compiled), bits(plain))


@pytest.mark.parametrize("compiled", [True, False])
def test_what_the_dtype_cannot_hold_is_refused(compiled):
    base, vector = torch.full((3000,), 3e38), torch.zeros(3000)
    vector[7] = 3e38
    with pytest.raises(ValueError, match="1 of 3000 weights in w too large for float32"):
        stored(Emr(), "w", base, vector, torch.float32, True, compiled)
    vector[7] = -3e38  # large, and yet there is a sum
    assert stored(Emr(), "w", base, vector, torch.float32, True, compiled)[7] == 0


def test_what_is_no_number_any_more_is_refused():
    base, vector = torch.zeros(3000), torch.zeros(3000)
    vector[7] = torch.nan
    for compiled in (True, False):
        with pytest.raises(ValueError, match="1 of 3000 weights in w too large for float32"):
            stored(Emr(), "w", base, vector, torch.float32, True, compiled)


def test_a_thread_uses_its_rooms_again_and_other_threads_have_others():
    with ROOMS.lent():
        one, two = (ROOMS.take("test", 1000, torch.float32).data_ptr() for _ in range(2))
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(lambda: ROOMS.take("test", 1000, torch.float32).data_ptr()).result()
    assert one == two != other


def test_what_is_made_of_a_room_is_made_once_and_anew_for_other_memory():
    made = []

    def make(flats):
        made.append([flat.data_ptr() for flat in flats])
        return made[-1]

    with ROOMS.lent():
        small = ROOMS.several(100, (torch.float32, torch.bfloat16))
        assert ROOMS.once("test", small, make) is ROOMS.once("test", list(small), make)
        assert ROOMS.once("test", [torch.zeros(2), torch.zeros(2)], make) is made[1]  # not of the room
        large = ROOMS.several(1 << 20, (torch.float32, torch.bfloat16))  # the room has to be larger now
        assert ROOMS.once("test", large, make) == [flat.data_ptr() for flat in large]
        again = ROOMS.several(100, (torch.float32, torch.bfloat16))
        assert ROOMS.once("test", again, make) == [flat.data_ptr() for flat in again]
    assert len(made) == 4


def test_a_merge_gives_back_the_memory_it_read_into(base, experts, tmp_path, monkeypatch):
    monkeypatch.setattr(fast, "WORTH", 0)
    files = {name: tmp_path / f"{name}.safetensors" for name in ("base", *experts)}
    for name, weights in {"base": base, **experts}.items():
        save_file(weights, files[name])
    start = files.pop("base")
    mk.merge("emr", start, files)
    mk.merge("emr", start, files, out=tmp_path / "out")
    assert not ROOMS.kept
    assert not ROOMS.cuts
    assert ROOMS.latest is None
