"""What PCB-Merging's figures show: their data, ranges and labels."""

import json

import pandas as pd
import pytest

from mergekit_nb import plots

SCORES = pd.DataFrame([[0.2, -1.5], [float("nan"), 3.0]], index=["mnist", "kana"], columns=["#7", "#3"])
SHARES = pd.DataFrame([[0.01, 0.2], [0.4, 0.1]], index=["stem", "head"], columns=["mnist", "nobody"])
HISTORY = pd.DataFrame(
    {"step": [0, 1, 2], "scale": [1.2, 2.0, 0.9], "score": [0.7, 0.3, 0.72], "best": [0.7, 0.7, 0.72]}
)

FIGURES = {
    "score_grid": lambda: plots.score_grid(SCORES, "Scores"),
    "share_by_layer": lambda: plots.share_by_layer(SHARES, "Survivors"),
    "search_history": lambda: plots.search_history(HISTORY),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_fits_both_themes_and_stays_small(name):
    fig = FIGURES[name]()
    layout = fig.layout.template.layout
    assert (layout.paper_bgcolor, layout.font.color) == ("rgba(0,0,0,0)", "#767676")
    assert fig.layout.title.text
    assert len(fig.to_json()) < 20_000


def test_scores_are_coloured_evenly_about_zero():
    heat = plots.score_grid(SCORES, "Scores").data[0]
    assert (heat.zmin, heat.zmax) == (-3, 3)
    assert (plots.score_grid(SCORES, "Scores", highest=10).data[0].zmax) == 10


def test_scores_that_are_never_negative_have_no_blue():
    heat = plots.score_grid(SCORES.abs(), "Scores").data[0]
    assert (heat.zmin, heat.zmax) == (0, 3)
    assert plots.theme.SIGNED[0][1] not in dict(heat.colorscale).values()


def test_shares_are_written_in_per_cent_and_their_colours_end_at_the_largest():
    fig = plots.share_by_layer(SHARES, "Survivors")
    assert (fig.data[0].zmin, fig.data[0].zmax) == (0, 0.4)
    assert sorted(text for trace in fig.data[1:] for text in trace.text) == ["1%", "10%", "20%", "40%"]


def test_a_search_has_a_panel_for_each_number_and_its_best_trial_circled():
    fig = plots.search_history(HISTORY.assign(ratio=[0.1, 0.2, 0.3]))
    assert [axis.title.text for axis in (fig.layout.xaxis, fig.layout.xaxis2)] == ["scale", "ratio"]
    assert (list(fig.data[0].x), list(fig.data[1].x), list(fig.data[3].x)) == ([1.2, 2.0, 0.9], [0.9], [0.3])


def test_a_grid_of_ones_own_needs_no_steps():
    json.dumps(plots.search_history(HISTORY[["scale", "score"]]).to_plotly_json(), default=list)
