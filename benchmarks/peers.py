"""The peers, each in a virtual environment of its own under build/peers, installed from PyPI; none is a dependency of this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[1] / "build" / "peers"
WANTED = {"mergekit": ["mergekit"], "fusion_bench": ["fusion-bench", "peft"]}


def python_of(environment: str) -> str:
    """The interpreter of an environment; "" and "whole" are this one."""
    return str(HOME / environment / "bin" / "python") if environment in WANTED else sys.executable


def install(environment: str) -> None:
    """Make the environment, unless it is there: minutes, and some 6 GB."""
    if (HOME / environment / "installed").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", str(HOME / environment)], check=True)
    subprocess.run([python_of(environment), "-m", "pip", "install", "-q", *WANTED[environment]], check=True)
    (HOME / environment / "installed").touch()


def versions(environment: str) -> dict[str, str]:
    """The versions that are measured."""
    code = "import importlib.metadata as m, sys; print(*[m.version(n) for n in sys.argv[1:]])"
    names = [*WANTED[environment], "torch"]
    said = subprocess.run([python_of(environment), "-c", code, *names], check=True, capture_output=True, text=True)
    return dict(zip(names, said.stdout.split(), strict=True))
