"""What zipping keeps of networks that never shared a parent: every pair of the strangers, every boundary, every matching.

python benchmarks/strangers.py            prints the table
python benchmarks/strangers.py --measure  chooses alpha and beta, runs everything first, and writes benchmarks/strangers.csv

alpha and beta are chosen on the validation pictures of the first pair, which the means leave out. All other figures are
of test pictures.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import pandas as pd

import mergekit_nb as mk
from mergekit_nb.align.repair import reset
from mergekit_nb.zoo.pairs import Strangers, net

MEASURED = Path(__file__).with_suffix(".csv")
ALPHAS, BETAS = (1.0, 0.5, 0.1, 0.01, 1e-4), (1.0, 0.5, 0.25, 0.125, 0.0)
COLUMNS = ["pair", "method", "boundary", "alpha", "beta", "task", "accuracy", "n", "low", "high", "loss", "flops"]


def choose(zoo: Strangers, pair: str) -> tuple[float, float]:
    """The alpha and beta with the best joint accuracy on validation pictures, in the mean over all boundaries."""
    found = {}
    for alpha, beta in product(ALPHAS, BETAS):
        table = measured(zoo, pair, alpha, beta, methods=["zip"], split="validation")
        zips = table[(table["method"] == "zip") & (table["task"] == "joint")]
        found[alpha, beta] = zips["accuracy"].mean()
        print(f"alpha {alpha:g} beta {beta:g}: {found[alpha, beta]:.1%}", flush=True)
    return max(found, key=found.get)


def measured(zoo: Strangers, pair: str, alpha: float, beta: float, **how) -> pd.DataFrame:
    """`mk.tradeoff` of a pair."""
    return mk.tradeoff(
        zoo.of(pair), zoo.tasks_of(pair), zoo.batches(pair), alpha=alpha, beta=beta, scale=zoo.scale, **how
    )


def rebasin(zoo: Strangers, pair: str) -> pd.DataFrame:
    """The average of a network and another that was aligned to it by its weights, in the columns of `measured`."""
    (one, other), batches, merged = zoo.of(pair).values(), zoo.batches(pair), net(zoo.card["shape"])
    merged.load_state_dict(mk.blend({"one": one, "other": mk.align(other, to=one)}, [0.5, 0.5]))
    table = mk.joint(reset(merged, batches), zoo.tasks_of(pair), scale=zoo.scale)
    return table.assign(method="rebasin", boundary="all", flops=mk.flops(merged, batches[0][:1]))


def measure() -> pd.DataFrame:
    """Every row of the table."""
    zoo = mk.zoo.load("strangers")
    alpha, beta = choose(zoo, next(iter(zoo.pairs)))
    print(f"chosen: alpha {alpha:g}, beta {beta:g}", flush=True)
    tables = []
    for pair, names in zoo.pairs.items():
        found = [measured(zoo, pair, alpha, beta), *([rebasin(zoo, pair)] if len(names) == 2 else [])]
        tables += [table.assign(pair=pair, alpha=alpha, beta=beta) for table in found]
        print(pair, flush=True)
    return pd.concat(tables, ignore_index=True)[COLUMNS].round(4)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Joint accuracy, method by boundary: the mean over the two-network pairs that nothing was chosen on, and its
    standard deviation over them."""
    pairs = [pair for pair in frame["pair"].unique()[1:] if frame[frame["pair"] == pair]["task"].nunique() == 3]
    rows = frame[(frame["task"] == "joint") & frame["pair"].isin(pairs)]
    rows = rows.assign(boundary=rows["boundary"].where(rows["method"] != "alone", "nothing"))
    return rows.groupby(["method", "boundary"], sort=False)["accuracy"].agg(["mean", "std", "count"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--measure", action="store_true", help="measure first")
    if parser.parse_args().measure:
        measure().to_csv(MEASURED, index=False)
    print(summary(pd.read_csv(MEASURED)).round(3).to_string())
