"""No golden case is forgotten: README.md says where each is tested, and that file names it."""

from __future__ import annotations

import ast
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from .cases import DATA, MANIFEST

HERE = Path(__file__).parent
LATER = json.loads((DATA / "later.json").read_text())
ROW = re.compile(r"^\| `?(test_\w+\.py|data)`? \| (`.+`) \|$", re.M)
ROWS = [(where, tuple(re.findall("`(.+?)`", cells))) for where, cells in ROW.findall((HERE / "README.md").read_text())]
TESTED = [row for row in ROWS if row[0].endswith(".py")]


def rows_of(case: str, rows) -> list[str]:
    return [where for where, patterns in rows if any(fnmatchcase(case, pattern) for pattern in patterns)]


def named(file: Path) -> tuple[set[str], set[str]]:
    """The cases a test file names, and the beginnings by which it takes them from the manifest (`ids`) or an f-string."""
    exact, starts = set(), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ids":
            starts.add(node.args[0].value)
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            starts.add(node.values[0].value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            exact.add(node.value)
    return exact, {start for start in starts if "/" in start or start.startswith(("emr_", "pcb_", "zipit_"))}


@pytest.mark.parametrize("case", MANIFEST)
def test_a_case_has_one_row_and_its_file_names_it(case):
    (where,) = rows_of(case, TESTED)
    exact, starts = named(HERE / where)
    assert case in exact or case.startswith(tuple(starts)), f"{where} tests no {case}"


def test_what_comes_later_is_in_the_other_table():
    rows = [row for row in ROWS if row not in TESTED]
    assert not LATER.keys() & MANIFEST.keys()
    for case, reason in LATER.items():
        (need,) = rows_of(case, rows)
        assert need in reason


def test_every_pattern_of_the_tables_fits_a_case():
    for _, patterns in ROWS:
        for pattern in patterns:
            assert any(fnmatchcase(case, pattern) for case in (*MANIFEST, *LATER)), pattern
