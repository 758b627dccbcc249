"""The README's tables are the code's and the measurement's, not somebody's memory of them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def readme():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_as_made():
    text = (ROOT / "README.md").read_text()
    assert readme().render(text) == text, "run: python benchmarks/readme.py"


def test_every_file_it_points_to_is_there():
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_emr_is_above_every_single_model_merge_and_below_the_experts():
    """The papers' headline, as measured on the zoo's test split: 95 % intervals that do not overlap."""
    import pandas as pd

    from mergekit_nb.compare import table
    from mergekit_nb.methods import METHODS

    made = readme()
    wide = table(pd.read_csv(made.MEASURED, keep_default_na=False).assign(seconds=0.0))
    single = [name for name in wide.index if name in METHODS and METHODS[name].leaves == "one model"]
    assert {"average", "task_arithmetic", "ties", "dare"} < set(single)
    assert wide.loc["emr", "low"] > wide.loc[single, "high"].max()
    assert wide.loc["emr", "high"] < wide.loc["individual", "low"]
