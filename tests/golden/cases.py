"""The authors' own outputs, frozen: safetensors and one manifest."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

DATA = Path(__file__).parent / "data"
MANIFEST = json.loads((DATA / "manifest.json").read_text())


@cache
def _file(name: str) -> dict[str, Tensor]:
    return load_file(DATA / f"{name}.safetensors")


def core(case: str) -> dict[str, Tensor]:
    """All tensors of a case that has a file of its own."""
    return _file(case)


def related(case: str) -> dict[str, Tensor]:
    """All tensors of a case `<file>/<case>`, without that prefix: `in/…`, `out/…`."""
    file, _, name = case.partition("/")
    return under(_file(file), f"{name}/")


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def ids(prefix: str) -> list[str]:
    """The cases of the manifest whose id starts so."""
    return [case for case in MANIFEST if case.startswith(prefix)]


def params(case: str) -> dict:
    """The parameters the authors' function was called with."""
    return MANIFEST[case]["params"]
