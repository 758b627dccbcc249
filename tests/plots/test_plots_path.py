"""The path plot draws what the table says."""

import pandas as pd

from mergekit_nb.plots import score_along_path


def test_a_line_per_task_in_the_order_of_the_way():
    table = pd.DataFrame(
        {"x": [1, 0, 0.5] * 2, "task": ["a"] * 3 + ["b"] * 3, "accuracy": [0.3, 0.1, 0.2, 0.6, 0.4, 0.5]}
    )
    figure = score_along_path(table)
    assert [trace.name for trace in figure.data] == ["a", "b"]
    assert list(figure.data[0].x) == [0, 0.5, 1]
    assert list(figure.data[1].y) == [0.4, 0.5, 0.6]
