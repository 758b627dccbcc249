"""Small tables in the shape of what `similarity`, `magnitudes`, `densities` and `compare` return."""

from itertools import combinations

import pandas as pd
import torch

TASKS = ["zebra", "mnist", "emoji"]  # not in alphabetical order, on purpose
LAYERS = ["stem", "block 0", "block 10", "head"]


def cosines() -> pd.DataFrame:
    rows = [
        (a, b, "model", 0.1 * place, 0.4, 1.0, 50, "task vectors")
        for place, (a, b) in enumerate(combinations(TASKS, 2))
    ]
    return pd.DataFrame(rows, columns=["a", "b", "scope", "cosine", "sign_conflict", "l2", "n", "of"])


def conflicts() -> pd.DataFrame:
    rows = [
        ("merged", task, layer, 0.5, 0.1 * row + 0.01 * column, 1.0, 50, "task vectors")
        for column, task in enumerate(TASKS)
        for row, layer in enumerate(LAYERS)
    ]
    return pd.DataFrame(rows, columns=cosines().columns)


def magnitudes() -> pd.DataFrame:
    kinds = {"expert": 1.0, "masked": 1.5, "rescaled": 0.9}
    rows = [
        (task, layer, kind, size * (1 + row) / 1000)
        for row, layer in enumerate(LAYERS)
        for task in TASKS
        for kind, size in kinds.items()
    ]
    return pd.DataFrame(rows, columns=["task", "layer", "kind", "mean_abs"])


def densities() -> pd.DataFrame:
    rows = [
        (task, layer, f"{layer}.{part}", n, density, 0.7 + 0.1 * place)
        for place, task in enumerate(TASKS)
        for layer in LAYERS
        for part, n, density in (("weight", 300, 0.6), ("bias", 100, 0.2))
    ]
    return pd.DataFrame(rows, columns=["task", "layer", "tensor", "n", "density", "rescaler"])


def accuracies() -> pd.DataFrame:
    sizes = {"base": 1e6, "individual": 3e6, "ties": 1e6, "emr": 2.1e6}
    rows = [
        (method, task, 0.5 + 0.1 * place, 100, 0.4 + 0.1 * place, 0.6 + 0.1 * place, "", 1.0, size)
        for place, (method, size) in enumerate(sizes.items())
        for task in TASKS
    ]
    columns = ["method", "task", "accuracy", "n", "low", "high", "options", "seconds", "bytes"]
    return pd.DataFrame(rows, columns=columns)


def distances() -> pd.DataFrame:
    rows = [(task, scale, 4 * (1 - 2 * scale + 2 * scale**2)) for task in TASKS for scale in (0.0, 0.5, 1.0)]
    return pd.DataFrame(rows, columns=["task", "scale", "distance"])


def weights() -> pd.DataFrame:
    return pd.DataFrame([[0.001, -0.004], [float("nan"), 0.003]], index=TASKS[:2], columns=["#7", "#3"])


def images() -> dict[str, torch.Tensor]:
    return {"grey": torch.full((5, 1, 8, 8), 10).byte(), "colour": torch.full((9, 3, 8, 8), 200).byte()}
