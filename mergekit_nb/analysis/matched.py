"""Which features a zip made into one, pair by pair."""

from __future__ import annotations

from itertools import combinations

import pandas as pd

from mergekit_nb.maths.matching import Zip


def matched(found: Zip) -> pd.DataFrame:
    """Every two features that are in one group.

    Returns:
        Columns a and b, the features' numbers (model 0's first, then model 1's, …), a < b; and kind: "across models" or
        "within a model".
    """
    width = len(found.unmerge) // found.models
    rows = [
        (a, b, "within a model" if a // width == b // width else "across models")
        for group in found.groups
        for a, b in combinations(sorted(group), 2)
    ]
    return pd.DataFrame(rows, columns=["a", "b", "kind"])
