"""One page about a comparison: table, figures, provenance. It holds all it needs and asks the network for nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go
import torch
from plotly.offline import get_plotlyjs

from mergekit_nb.analysis import densities, magnitudes, similarity
from mergekit_nb.compare import HEADLINE, shown
from mergekit_nb.device import pick
from mergekit_nb.engine.merge import merge
from mergekit_nb.plots import (
    CONFIG,
    accuracy_by_task,
    bytes_against_accuracy,
    cosine_matrix,
    density_and_rescaler,
    magnitude_alignment,
    sign_conflict,
)
from mergekit_nb.weights.hashing import DIGESTS
from mergekit_nb.weights.merged import Merged

if TYPE_CHECKING:
    from mergekit_nb.zoo import Zoo

# the policy lets no request leave the page, whatever a library in it may try
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#ffffff, #16181c); color: light-dark(#1c1e21, #e6e6e6); }
.wide { overflow-x: auto; margin-bottom: 1.5rem; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.5rem; text-align: right; border-bottom: 1px solid light-dark(#d9dce1, #3a3f47); white-space: nowrap; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; font-size: 14px; }
dd { margin: 0; overflow-wrap: anywhere; }
</style>
<script>$plotly</script>
</head>
<body>
<h1>$title</h1>
<p>$lead</p>
<div class="wide">$table</div>
$figures
<h2>Where this comes from</h2>
<dl>$provenance</dl>
</body>
</html>
""")


def write(path: str | Path, frame: pd.DataFrame, zoo: Zoo, *, device: str | torch.device = "auto") -> Path:
    """Write the page.

    Args:
        path: the .html file.
        frame: what `compare` returned for this zoo.
        zoo: the same zoo; its experts are compared with each other, with their average and with their EMR merge.
        device: where these merges are computed.
    """
    merged = merge("emr", zoo.base, zoo.experts, device=device)
    facts = {**_run(device), **_inputs(merged)}
    page = PAGE.substitute(
        title=f"Merging {escape(zoo.name)}: {frame['task'].nunique()} tasks",
        lead=escape(_lead(frame)),
        plotly=get_plotlyjs(),
        table=shown(frame).to_html(index=False, border=0),
        figures="\n".join(_figures(frame, zoo, merged, device)),
        provenance="".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items()),
    )
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def _lead(frame: pd.DataFrame) -> str:
    images = f"{frame['n'].min()}" if frame["n"].nunique() == 1 else f"{frame['n'].min()} to {frame['n'].max()}"
    tuned = frame["options"].str.contains("validation").any()
    chosen = " Scales were chosen on validation images, never on these." if tuned else ""
    return (
        f"Share of {images} test images per task that are classified as labelled. The mean gives every task the same "
        f"weight; its interval covers the choice of images, not of training seeds.{chosen}"
    )


def _figures(frame: pd.DataFrame, zoo: Zoo, merged: Merged, device: str | torch.device) -> Iterator[str]:
    few = _few(frame)
    if len(few) < len(frame):
        yield f"<p>The figures show the headline methods: {escape(', '.join(HEADLINE))}.</p>"
    yield _html(accuracy_by_task(few))
    yield _html(bytes_against_accuracy(few))
    yield "<h2>How the experts differ</h2>"
    yield _html(cosine_matrix(similarity(zoo.experts, base=zoo.base)))
    average = merge("average", zoo.base, zoo.experts, device=device).weights()
    yield _html(sign_conflict(similarity({"average": average}, zoo.experts, base=zoo.base, by="layer")))
    yield "<h2>What elect, mask and rescale make of them</h2>"
    yield _html(magnitude_alignment(magnitudes(zoo.base, zoo.experts, merged)))
    yield _html(density_and_rescaler(densities(merged)))


def _few(frame: pd.DataFrame) -> pd.DataFrame:
    """What a figure can hold: all methods where they are no more than the headline ones, else those."""
    if frame["method"].nunique() <= len(HEADLINE) + 2:
        return frame
    return frame[frame["method"].isin(["base", "individual", *HEADLINE])]


def _html(figure: go.Figure) -> str:
    return figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG)


def _run(device: str | torch.device) -> dict[str, str]:
    return {
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "device": str(pick(device)),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _inputs(merged: Merged) -> dict[str, str]:
    """Versions, and the hash of every model read."""
    versions: Mapping[str, str] = merged.provenance["versions"]
    inputs = merged.provenance["inputs"]
    hashes = {"base": inputs["base"], **inputs["experts"]}
    return {
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        **{f"{name}, {kind}": origin[kind] for name, origin in hashes.items() for kind in DIGESTS if kind in origin},
    }
