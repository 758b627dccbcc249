"""What zipping keeps of networks that never shared a parent: every pair of the strangers, every boundary, every matching.

python benchmarks/strangers.py            prints the table
python benchmarks/strangers.py --measure  chooses alpha and beta, runs everything first, and writes benchmarks/strangers.csv

alpha and beta are chosen on the validation pictures of the first pair, which the means leave out. All other figures are
of test pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd

import mergekit_nb as mk
from mergekit_nb.align.repair import reset
from mergekit_nb.models.resnet import ResNet
from mergekit_nb.zoo.pairs import Strangers, net

MEASURED = Path(__file__).with_suffix(".csv")
ALPHAS, BETAS = (1.0, 0.5, 0.1, 0.01, 1e-4), (1.0, 0.5, 0.25, 0.125, 0.0)
MATCHINGS = {"zip": "zip", "permute": "permute", "average": "identity"}  # name in the table -> that of mk.zipit
COLUMNS = ["pair", "method", "boundary", "alpha", "beta", "task", "accuracy", "n", "low", "high", "loss", "flops"]


def choose(zoo: Strangers, pair: str) -> tuple[float, float]:
    """The alpha and beta with the best joint accuracy on validation pictures, in the mean over all boundaries."""
    nets, tasks, batches = list(zoo.of(pair).values()), zoo.tasks_of(pair), zoo.batches(pair)
    found = {}
    for alpha, beta in product(ALPHAS, BETAS):
        zips = [mk.zipit(nets, batches, alpha, beta, stop_at=stop) for stop in stops(zoo, pair)]
        tables = [mk.joint(zipped, tasks, scale=zoo.scale, split="validation") for zipped in zips]
        found[alpha, beta] = sum(table["accuracy"].iloc[0] for table in tables) / len(tables)
        print(f"alpha {alpha:g} beta {beta:g}: {found[alpha, beta]:.1%}", flush=True)
    return max(found, key=found.get)


def stops(zoo: Strangers, pair: str) -> tuple[str | None, ...]:
    """The boundaries of a pair, and None for the whole network."""
    first, *rest = zoo.of(pair).values()
    boundaries = mk.zipit([first, *rest], zoo.batches(pair)[:1], matching="identity").boundaries
    return (*boundaries, None)


def models(zoo: Strangers, pair: str, alpha: float, beta: float) -> Iterator[tuple[str, str, object]]:
    """Method, what is zipped up to there, and the model."""
    named, batches = zoo.of(pair), zoo.batches(pair)
    nets = list(named.values())
    yield "ensemble", "nothing", nets
    for name, alone in named.items():
        yield "alone", name, alone
    for method, matching in MATCHINGS.items():
        for stop in stops(zoo, pair):
            yield method, stop or "all", mk.zipit(nets, batches, alpha, beta, stop_at=stop, matching=matching)
    if len(nets) == 2:
        yield "rebasin", "all", rebasin(zoo, *nets, batches)


def rebasin(zoo: Strangers, one: ResNet, other: ResNet, batches: list) -> ResNet:
    """The average of a network and another that was aligned to it by its weights."""
    merged = net(zoo.card["shape"])
    merged.load_state_dict(mk.blend({"one": one, "other": mk.align(other, to=one)}, [0.5, 0.5]))
    return reset(merged, batches)


def cost(model: object, picture) -> int:
    """Operations for one picture; an ensemble runs all of its networks."""
    return sum(mk.flops(of, picture) for of in (model if isinstance(model, list) else [model]))


def measure() -> pd.DataFrame:
    """Every row of the table."""
    zoo = mk.zoo.load("strangers")
    alpha, beta = choose(zoo, next(iter(zoo.pairs)))
    print(f"chosen: alpha {alpha:g}, beta {beta:g}", flush=True)
    tables = []
    for pair in zoo.pairs:
        picture = zoo.batches(pair)[0][:1]
        for method, boundary, model in models(zoo, pair, alpha, beta):
            table = mk.joint(model, zoo.tasks_of(pair), scale=zoo.scale)
            about = {"pair": pair, "method": method, "boundary": boundary, "alpha": alpha, "beta": beta}
            tables.append(table.assign(**about, flops=cost(model, picture)))
            print(pair, method, boundary, f"{table['accuracy'].iloc[0]:.1%}", flush=True)
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
