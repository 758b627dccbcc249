"""Imports go down only, and the library needs no Jupyter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

import mergekit_nb
from mergekit_nb.maths.prune import restore

ROOT = Path(__file__).parents[2]


def test_imports_go_down_the_floors_only():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_library_never_imports_jupyter():
    for file in (ROOT / "mergekit_nb").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (ipywidgets|anywidget|IPython)", file.read_text(), re.M), file
    script = "import sys, mergekit_nb; sys.exit(any(m in sys.modules for m in ('ipywidgets', 'anywidget')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_folder_widgets_is_imported_under_one_name_only():
    import mergekit_nb.widgets

    assert Path(mergekit_nb.widgets.__path__[0]).resolve() == ROOT / "widgets"


def test_public_names_of_the_contract_are_there():
    names = [
        "open",
        "merge",
        "load",
        "methods",
        "METHODS",
        "similarity",
        "zoo",
        "evaluate",
        "compare",
        "magnitudes",
        "Merged",
        "TaskVectors",
        "Cancelled",
    ]
    assert [n for n in names if not hasattr(mergekit_nb, n)] == []


def test_nothing_is_loaded_from_a_network_address():
    for file in [*(ROOT / "widgets").rglob("*.js"), *(ROOT / "widgets").rglob("*.css")]:
        addresses = set(re.findall(r"https?://[^\s\"')]+", file.read_text())) - {"http://www.w3.org/2000/svg"}
        assert not addresses, (file, addresses)


def test_shapes_in_signatures_are_checked_while_testing():
    with pytest.raises(TypeCheckError):
        restore(torch.zeros(3), torch.zeros(4), 0.5, None)
