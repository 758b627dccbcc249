import re

import plotly.graph_objects as go

from mergekit_nb.widgets.lean import BUNDLE, LeanFigure, cells, hub


def test_plotlys_widget_code_still_has_what_the_loader_calls():
    """The loader calls the default export, a function that gives initialize and render."""
    code = BUNDLE.read_text(encoding="utf-8")
    assert re.search(r"export\s*\{[^}]*\bas default\b", code)
    assert "initialize" in code


def test_figures_share_one_copy_of_plotly():
    figures = [LeanFigure(go.Figure()) for _ in range(3)]
    assert {figure._hub_ref for figure in figures} == {hub().model_id}
    assert all(len(figure._esm) < 4000 for figure in figures)
    assert len(hub().source) > 1_000_000


def test_no_figure_offers_to_upload():
    assert LeanFigure(go.Figure())._config["showSendToCloud"] is False


def test_cells_that_are_no_number_travel_as_nothing():
    import numpy as np

    assert cells(np.array([[1.0, np.nan], [np.inf, 0.5]])) == [[1.0, None], [None, 0.5]]


def test_what_changes_before_the_page_has_drawn_is_in_the_figure_it_will_draw():
    figure = LeanFigure(go.Figure(go.Bar(y=[1, 2])))
    with figure.batch_update():
        figure.data[0].y, figure.layout.title.text = [3, 4], "new"
    assert list(figure._widget_data[0]["y"]) == [3, 4]
    assert figure._widget_layout["title"]["text"] == "new"
    figure.data[0].y = [5, 6]
    assert list(figure._widget_data[0]["y"]) == [5, 6]
    figure.update_layout(font_color="#123456")
    assert figure._widget_layout["font"]["color"] == "#123456"
    figure._drawn = True
    figure.data[0].y = [7, 8]
    assert list(figure._widget_data[0]["y"]) == [5, 6], "from then on the page keeps it by the messages"
