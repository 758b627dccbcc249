"""A merge under way in a notebook whose next cell already waits for it: Cancel is heard all the same."""

from tests.browser.conftest import write

CELL = """import time, torch
from mergekit_nb.methods import TaskArithmetic
from mergekit_nb.widgets import Merging

class Patient(TaskArithmetic):
    def merge(self, site, taus, totals):
        time.sleep(0.1)
        return super().merge(site, taus, totals)

base = {f"layer {i}": torch.zeros(1000) for i in range(5000)}
merging = Merging(Patient(), base, {"a": base, "b": base})
merging"""
SAYS = "text => document.querySelector('.mk-panel')?.innerText.includes(text)"


def test_cancel_is_heard_while_a_cell_waits(notebook, lab):
    write(lab.folder / "merging.ipynb", CELL, "merging.wait()")
    page = notebook.open("merging.ipynb").page
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells') }")
    page.wait_for_function(SAYS, arg="left", timeout=60_000)
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_function(SAYS, arg="cancelled: nothing was written", timeout=20_000)
    assert page.locator(".mk-panel .mk-say[aria-live=polite]").count() == 1
