"""EmrWalk on the embedded zoo, operated by keyboard and mouse; the data on the page has to change."""

import pytest

GRID = ".mk-walk-grid"
STEP_IS = f"step => document.querySelector('{GRID}').dataset.step === step"
TEXT_HAS = "text => document.querySelector('.mk-text').innerText.includes(text)"
SAYS = "start => document.querySelector('.mk-accuracy-say').innerText.startsWith(start)"
NAMELESS = """() => Array.from(document.querySelectorAll(
    ".mk-panel input, .mk-panel select, .mk-panel button, .mk-panel .noUi-handle, .mk-panel [role=grid]"))
  .filter(e => e.offsetParent && !(e.getAttribute("aria-label") || e.labels?.length || e.innerText.trim()))
  .map(e => e.outerHTML.slice(0, 200))"""
OVERFLOWING = """() => { const panel = document.querySelector(".mk-panel"), edge = panel.getBoundingClientRect().right + 1;
  return Array.from(panel.querySelectorAll("*")).filter(e => e.offsetParent && e.getBoundingClientRect().right > edge
    && !e.closest(".frame") && !e.closest("svg")).map(e => e.className); }"""
SHARE = "[data-title^='Share'], [data-title*='cloud' i], [data-title*='Chart Studio']"


def cells(walk, row):
    return walk.page.locator(f"{GRID} td[data-row='{row}']").all_inner_texts()


def live(walk):
    return walk.page.locator(f"{GRID} .live").inner_text()


def magnitudes(walk):
    return [trace["y"] for trace in walk.traces(".mk-figure") if trace["type"] == "bar"]


def test_the_steps_by_click(walk):
    allowed = ["+−0", "+−0", "01", "+−0·"]
    for step, glyphs in enumerate(allowed):
        walk.page.locator(".mk-step button").nth(step).click()
        walk.page.wait_for_function(STEP_IS, arg=str(step))
        assert set(cells(walk, 0)) <= set(glyphs)
        votes = set(cells(walk, 8))
        assert votes == {"?"} if step == 0 else votes <= {"+", "−"}
    assert walk.page.locator(f"{GRID} td.lam").first.is_visible()


def test_the_steps_by_keyboard(walk):
    walk.page.locator(".mk-step button").nth(1).focus()
    walk.page.keyboard.press("Enter")
    walk.page.wait_for_function(STEP_IS, arg="1")
    assert walk.page.locator(f"{GRID} td.win").count() > 0
    walk.page.locator(f"{GRID} td[tabindex='0']").focus()
    walk.page.keyboard.press("3")
    walk.page.wait_for_function(STEP_IS, arg="3")
    assert walk.page.locator(f"{GRID} td.win").count() == 0


def test_the_layer_by_keyboard_and_by_mouse(walk):
    first, index = magnitudes(walk), walk.page.locator(f"{GRID} thead th").all_inner_texts()
    walk.slide(".mk-layer", 2)
    walk.page.wait_for_function(TEXT_HAS, arg="block 1")
    second = magnitudes(walk)
    assert second != first
    assert walk.page.locator(f"{GRID} thead th").all_inner_texts() != index
    walk.drag(".mk-layer", 1.0)
    walk.page.wait_for_function(TEXT_HAS, arg="head")
    assert magnitudes(walk) not in (first, second)


def test_a_click_in_the_heat_map_goes_to_that_layer(walk):
    before = magnitudes(walk)
    map_ = walk.page.locator(".mk-figure .nsewdrag").first
    map_.scroll_into_view_if_needed()
    box, layers = map_.bounding_box(), len(walk.traces(".mk-figure")[0]["y"])
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 2.5 / layers
    walk.page.mouse.move(x, y)
    walk.page.mouse.click(x, y)
    walk.page.wait_for_function(TEXT_HAS, arg="block 1")
    assert magnitudes(walk) != before


def test_a_click_and_the_arrow_keys_in_the_grid_say_which_weight(walk):
    walk.page.locator(".mk-step button").nth(3).click()
    walk.page.wait_for_function(STEP_IS, arg="3")
    walk.page.locator(f"{GRID} td[data-row='2'][data-column='4']").click()
    said = live(walk)
    assert said.startswith("kana, weight ")
    assert "task vector" in said
    walk.page.keyboard.press("ArrowDown")
    assert live(walk).startswith("quickdraw, weight ")
    walk.page.keyboard.press("ArrowRight")
    assert live(walk).split(",")[1] != said.split(",")[1]
    walk.page.keyboard.press("End")
    focused = walk.page.evaluate("() => [document.activeElement.dataset.row, document.activeElement.dataset.column]")
    assert focused == ["3", "31"]
    assert walk.page.locator(f"{GRID} td[tabindex='0']").count() == 1


def test_other_weights_are_shown_when_asked_for(walk):
    before = walk.page.locator(f"{GRID} thead th").all_inner_texts()
    walk.page.locator(".mk-pick select").select_option("largest")
    walk.page.wait_for_function(
        "before => Array.from(document.querySelectorAll('.mk-walk-grid thead th'), th => th.innerText).join() !== before",
        arg=",".join(before),
    )
    walk.page.locator(".mk-pick select").select_option("typed")
    entry = walk.page.locator(".mk-indices input")
    entry.fill("3, 17, 42")
    entry.press("Enter")
    walk.page.wait_for_function(f"() => document.querySelectorAll('{GRID} td[data-row=\"0\"]').length === 3")
    entry.fill("99999999")
    entry.press("Enter")
    walk.page.wait_for_function("() => document.querySelector('.mk-problem').innerText.includes('got 99999999')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accuracy_is_measured_while_you_watch(walk, theme):
    page = walk.page
    walk.theme(theme)
    page.locator(".mk-step button").nth(3).click()
    images = {"light": "50", "dark": "100"}[theme]
    page.locator(".mk-images select").select_option(images)
    page.locator(".mk-run").click()
    page.wait_for_function(SAYS, arg=f"Mean over 8 tasks, at most {images} images", timeout=120_000)
    shown = {trace["name"]: trace["y"] for trace in walk.traces(".mk-accuracy") if trace["visible"] is True}
    means = {name: values[-1] for name, values in shown.items()}
    assert means["elect"] < means["+ mask"] < means["individual experts"]
    before = shown["merged up to this layer"]
    walk.slide(".mk-layer", 3)
    page.wait_for_function(
        """before => { const plot = document.querySelector('.mk-accuracy.js-plotly-plot, .mk-accuracy .js-plotly-plot');
          const trace = plot._fullData.find(t => t.name === 'merged up to this layer');
          return trace.y.length && !Number.isNaN(trace.y.at(-1)) && trace.y.at(-1) !== null && Array.from(trace.y).join() !== before; }""",
        arg=",".join(map(str, before)), timeout=60_000,
    )  # fmt: skip
    assert not walk.problems()


def test_cancel_stops_a_measurement(walk):
    walk.page.locator(".mk-images select").select_option(label="all")
    walk.page.locator(".mk-run").click()
    walk.page.wait_for_function("() => document.querySelector('.mk-run').innerText === 'Cancel'")
    walk.page.wait_for_function("() => document.querySelector('.mk-accuracy-say').innerText.includes('images)')")
    walk.page.locator(".mk-run").click()
    walk.page.wait_for_function(SAYS, arg="Cancelled.", timeout=2_000)
    assert walk.page.locator(".mk-run").inner_text() == "Measure"


def test_every_control_has_a_name_nothing_sticks_out_and_nothing_uploads(walk):
    walk.page.wait_for_function(
        "() => document.querySelector('.mk-layer .noUi-handle').getAttribute('aria-label') === 'layer'"
    )
    assert walk.page.evaluate(NAMELESS) == []
    assert walk.page.evaluate(OVERFLOWING) == []
    assert walk.page.locator(SHARE).count() == 0


def test_panels_on_one_state_move_together(walk):
    before = walk.traces(".mk-similarity")[0]["z"]
    walk.slide(".mk-layer", 1)
    walk.page.wait_for_function("() => document.querySelector('.mk-similarity').innerHTML.includes('block 0')")
    assert walk.traces(".mk-similarity")[0]["z"] != before


def test_the_figures_follow_the_theme(walk):
    colours = []
    for theme in ("light", "dark"):
        walk.theme(theme)
        walk.page.wait_for_timeout(1000)
        colours.append(walk.plot(".mk-figure").evaluate("plot => plot._fullLayout.font.color"))
    assert colours == ["#424242", "#d6d6d6"]


def test_the_next_cell_reads_and_sets_the_state(walk):
    walk.slide(".mk-layer", 2)
    walk.page.wait_for_function(TEXT_HAS, arg="block 1")
    walk.python("assert walk.state.layer_name == 'block 1', walk.state.layer_name")
    walk.python("walk.state.layer = 'block 3'; walk.state.step = 'mask'")
    walk.page.wait_for_function(TEXT_HAS, arg="block 3")
    walk.page.wait_for_function(STEP_IS, arg="2")


def test_what_a_cell_set_while_the_page_was_loading_is_drawn(walk):
    bars = [trace["y"] for trace in walk.begun if trace["type"] == "bar"]
    layer = walk.value("walk.state.layers.index('block 1')")
    assert bars == [
        pytest.approx(walk.value(f"walk.study.overview.{kind}[{layer}].tolist()"))
        for kind in ("own", "masked", "rescaled")
    ]
