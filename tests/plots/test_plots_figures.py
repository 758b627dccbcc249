"""What the figures show: their data, ranges and labels."""

import base64
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import plot_tables as tables
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from mergekit_nb import plots
from mergekit_nb.plots import theme

FIGURES = {
    "cosine_matrix": lambda: plots.cosine_matrix(tables.cosines()),
    "sign_conflict": lambda: plots.sign_conflict(tables.conflicts()),
    "magnitude_alignment": lambda: plots.magnitude_alignment(tables.magnitudes()),
    "mask_density": lambda: plots.mask_density(tables.densities()),
    "density_and_rescaler": lambda: plots.density_and_rescaler(tables.densities()),
    "distance_by_scale": lambda: plots.distance_by_scale(tables.distances(), dict.fromkeys(tables.TASKS, 0.25)),
    "weight_grid": lambda: plots.weight_grid(tables.weights(), "Task vectors τ"),
    "accuracy_by_task": lambda: plots.accuracy_by_task(tables.accuracies()),
    "bytes_against_accuracy": lambda: plots.bytes_against_accuracy(tables.accuracies()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_fits_both_themes_and_stays_small(name):
    fig = FIGURES[name]()
    layout = fig.layout.template.layout
    assert (layout.paper_bgcolor, layout.font.color) == ("rgba(0,0,0,0)", "#767676")
    assert fig.layout.title.text
    assert len(json.dumps(fig.layout.template.to_plotly_json())) < 1500
    assert len(fig.to_json()) < 20_000


@pytest.mark.parametrize("renderer", ["plotly_mimetype", "notebook", "colab"])
def test_a_figure_in_a_notebook_has_no_upload_button(renderer):
    theme.quiet()
    assert plots.CONFIG["showSendToCloud"] is False
    assert pio.renderers[renderer].config.items() >= plots.CONFIG.items()


def test_importing_plots_in_a_kernel_is_enough_for_that():
    code = "import ipykernel, mergekit_nb.plots, plotly.io as p; print(p.renderers['plotly_mimetype'].config)"
    assert str(plots.CONFIG) in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout


def test_cosines_stand_on_both_sides_of_an_empty_diagonal():
    heat = plots.cosine_matrix(tables.cosines()).data[0]
    assert (list(heat.x), list(heat.y)) == (tables.TASKS, tables.TASKS)
    assert_allclose(heat.z, [[np.nan, 0, 0.1], [0, np.nan, 0.2], [0.1, 0.2, np.nan]])
    assert (heat.zmin, heat.zmax) == (-1, 1)


def test_cosines_of_two_groups_are_a_rectangle():
    table = tables.conflicts()[lambda table: table["scope"] == "stem"]
    heat = plots.cosine_matrix(table).data[0]
    assert (list(heat.y), list(heat.x)) == (["merged"], tables.TASKS)
    assert_allclose(heat.z, [[0.5, 0.5, 0.5]])


def test_titles_say_what_is_compared():
    assert plots.cosine_matrix(tables.cosines()).layout.title.text == "Cosine similarity of task vectors, whole model"
    weights = tables.cosines().assign(of="weights", scope="block 3")
    assert plots.cosine_matrix(weights).layout.title.text == "Cosine similarity of weights, block 3"
    assert plots.sign_conflict(weights).layout.title.text == "Sign conflict of weights"


def test_cosines_of_several_layers_do_not_fit_one_matrix():
    with pytest.raises(ValueError, match="one scope a figure; this table has 4: stem, block 0"):
        plots.cosine_matrix(tables.conflicts())


def test_conflicts_are_by_layer_and_task_on_a_fixed_scale():
    heat = plots.sign_conflict(tables.conflicts()).data[0]
    assert (list(heat.x), list(heat.y)) == (tables.TASKS, tables.LAYERS)
    assert_allclose(heat.z, [[0.1 * row + 0.01 * column for column in range(3)] for row in range(4)])
    assert (heat.zmin, heat.zmax) == (0, 0.5)


def test_conflicts_of_pairs_are_named_by_both():
    table = tables.cosines()
    assert list(plots.sign_conflict(table).data[0].x) == [
        f"{a} · {b}" for a, b in zip(table["a"], table["b"], strict=True)
    ]


def test_every_number_of_a_heat_map_is_written_once_white_on_dark_and_black_on_light():
    _, *inks = plots.sign_conflict(tables.conflicts()).data
    written = {
        (x, y): (text, ink.textfont.color) for ink in inks for x, y, text in zip(ink.x, ink.y, ink.text, strict=True)
    }
    assert sum(len(ink.x) for ink in inks) == len(written) == 12
    assert written["zebra", "stem"] == ("0%", "white")
    assert written["zebra", "head"] == ("30%", "black")


def test_magnitudes_have_a_panel_for_each_task_and_start_at_zero():
    fig = plots.magnitude_alignment(tables.magnitudes())
    assert [note.text for note in fig.layout.annotations] == tables.TASKS
    assert all(fig.layout[axis].rangemode == "tozero" for axis in ("yaxis", "yaxis2", "yaxis3"))
    masked = [trace for trace in fig.data if "mask" in trace.name]
    assert_allclose(masked[1].y, [0.0015, 0.003, 0.0045, 0.006])
    assert list(masked[1].x) == tables.LAYERS


def test_panels_of_all_rows_share_one_scale():
    fig = plots.magnitude_alignment(tables.magnitudes(), columns=1)
    assert [fig.layout[axis].matches for axis in ("yaxis", "yaxis2", "yaxis3")] == ["y3", "y3", None]


def test_each_kind_of_magnitude_has_one_legend_entry_and_its_own_shape():
    shown = [trace for trace in plots.magnitude_alignment(tables.magnitudes()).data if trace.showlegend]
    assert [type(trace) for trace in shown] == [go.Bar, go.Scatter, go.Scatter]
    assert shown[1].marker.symbol != shown[2].marker.symbol


def test_density_of_a_layer_weights_tensors_by_their_entries():
    heat = plots.mask_density(tables.densities()).data[0]
    assert (list(heat.x), list(heat.y), heat.zmin, heat.zmax) == (tables.TASKS, tables.LAYERS, 0, 1)
    assert_allclose(heat.z, np.full((4, 3), 0.5))  # (300 * 0.6 + 100 * 0.2) / 400


def test_rescalers_stand_beside_densities_from_zero_to_past_one():
    fig = plots.density_and_rescaler(tables.densities())
    density, rescaler = fig.data
    assert_allclose(density.x, [0.5, 0.5, 0.5])
    assert_allclose(rescaler.x, [0.7, 0.8, 0.9])
    assert (fig.layout.xaxis.range, fig.layout.xaxis2.range[0]) == ((0, 1), 0)
    assert fig.layout.xaxis2.range[1] > 1


def test_accuracies_have_their_intervals_and_the_mean_comes_last():
    fig = plots.accuracy_by_task(tables.accuracies())
    assert [trace.name for trace in fig.data] == ["base", "individual", "ties", "emr"]
    emr = fig.data[-1]
    assert list(emr.x) == [*tables.TASKS, "mean"]
    assert_allclose(emr.y, [0.8] * 4)
    half = np.sqrt(3 * 0.1**2) / 3  # three independent tasks: their distances add in squares
    assert_allclose(emr.error_y.array, [0.1, 0.1, 0.1, half])
    assert_allclose(emr.error_y.arrayminus, [0.1, 0.1, 0.1, half])
    assert fig.layout.yaxis.range == (0.4, 1)  # the lowest interval begins at 0.4
    assert len({(trace.marker.color, trace.marker.symbol) for trace in fig.data}) == 4


def test_a_method_looks_the_same_whatever_stands_beside_it():
    alone = tables.accuracies()[lambda table: table["method"] == "emr"]
    beside = plots.accuracy_by_task(tables.accuracies()).data[-1]
    assert plots.accuracy_by_task(alone).data[0].marker == beside.marker


def test_accuracies_of_one_model_need_no_method():
    one = tables.accuracies()[lambda table: table["method"] == "emr"].drop(columns="method")
    assert len(plots.accuracy_by_task(one).data) == 1


def test_bytes_are_megabytes_from_zero():
    fig = plots.bytes_against_accuracy(tables.accuracies())
    assert {trace.name: trace.x[0] for trace in fig.data} == {"base": 1, "individual": 3, "ties": 1, "emr": 2.1}
    assert fig.layout.xaxis.range[0] == 0
    assert "MB" in fig.layout.xaxis.title.text


def test_distances_are_relative_to_the_base_and_the_rescaler_is_marked_on_its_curve():
    curve, mark = plots.distance_by_scale(tables.distances(), dict.fromkeys(tables.TASKS, 0.25)).data[:2]
    assert_allclose(curve.y, [1, 0.5, 1])
    assert_allclose([mark.x[0], mark.y[0]], [0.25, 0.75])
    assert (curve.name, mark.showlegend) == ("zebra", False)


def test_single_weights_are_in_thousandths_on_one_scale_and_dropped_ones_stay_empty():
    heat, *inks = plots.weight_grid(tables.weights(), "Task vectors τ", highest=0.005).data
    assert_allclose(heat.z, [[1, -4], [np.nan, 3]])
    assert (list(heat.x), heat.zmin, heat.zmax) == (["#7", "#3"], -5, 5)
    assert sorted(text for ink in inks for text in ink.text) == ["+1.0", "+3.0", "-4.0"]
    assert plots.weight_grid(tables.weights(), "").data[0].zmax == 4


def test_pictures_stand_in_a_row_for_each_task_with_its_name_in_the_middle():
    fig = plots.picture_sheet(tables.images(), each=3)
    (sheet,) = fig.layout.images
    assert (sheet.sizex, sheet.sizey) == (3, 2)
    assert list(zip(fig.layout.yaxis.ticktext, fig.layout.yaxis.tickvals, strict=True)) == [
        ("grey", 0.5),
        ("colour", 1.5),
    ]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.source.split(",")[1]))))
    assert pixels.shape == (2 * (8 + 2) + 2, 3 * (8 + 2) + 2, 3)
    assert (pixels[5, 5].tolist(), pixels[15, 25].tolist()) == ([10] * 3, [200] * 3)


CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.mark.skipif(not any(map(shutil.which, CHROMES)), reason="kaleido needs Chrome or Chromium, none is installed")
def test_a_png_is_written(tmp_path):
    image = plots.png(plots.mask_density(tables.densities()), tmp_path / "figure.png", scale=1)
    assert image.startswith(b"\x89PNG")
    assert (tmp_path / "figure.png").read_bytes() == image
