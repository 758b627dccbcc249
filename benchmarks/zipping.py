"""How long ZipIt!'s matching takes: seconds by width, and as a multiple of a matrix that really shrinks (the tests' oracle).

    python -m benchmarks.zipping          from the root of the repository; one thread

Writes benchmarks/results/zipping.json.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mergekit_nb.maths.matching import zip_features
from tests.oracles_matching import official

ALPHA, BETA = 0.3, 0.125
WIDTHS = ((256, 2), (512, 2), (512, 3), (512, 4), (2048, 2))  # features of a model, models
AGAINST = 512  # width of the comparison: the oracle is cubic
RUNS = 5


def seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def correlation(width: int, models: int) -> torch.Tensor:
    """Of rectified features: every model's are those of the others in another order, with as much noise."""
    noise = torch.Generator().manual_seed(0)
    shared = torch.randn(width, 2 * width, generator=noise)
    own = [
        shared[torch.randperm(width, generator=noise)] + torch.randn(width, 2 * width, generator=noise)
        for _ in range(models)
    ]
    return torch.corrcoef(torch.cat(own).relu())


def main() -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    table = Table("features", "models", "mode", "median CPU s", "merges within", title=f"alpha {ALPHA}, beta {BETA}")
    rows = []
    for width, models in WIDTHS:
        r = correlation(width, models)
        for mode in ("official", "guarded"):
            took = [seconds(lambda r=r, n=models, m=mode: zip_features(r, n, ALPHA, BETA, m)) for _ in range(RUNS)]
            within = zip_features(r, models, ALPHA, BETA, mode).within()
            rows.append(
                {"width": width, "models": models, "mode": mode, "seconds": statistics.median(took), "within": within}
            )
            table.add_row(str(width), str(models), mode, f"{rows[-1]['seconds']:.3f}", str(within))
    r = correlation(AGAINST, 2)
    slow, fast = [], []
    for _ in range(RUNS):  # interleaved
        slow.append(seconds(lambda: official(r.numpy(), 2, np.float32(ALPHA), BETA)))
        fast.append(seconds(lambda: zip_features(r, 2, ALPHA, BETA, "official")))
    same = list(zip_features(r, 2, ALPHA, BETA, "official").groups) == official(r.numpy(), 2, np.float32(ALPHA), BETA)
    ratio = statistics.median(slow) / statistics.median(fast)
    Console().print(table)
    Console().print(
        f"{AGAINST} features, 2 models: {ratio:.0f} times faster than the oracle, {'the same' if same else 'OTHER'} groups"
    )
    machine = f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}"
    found = {"machine": machine, "runs": RUNS, "alpha": ALPHA, "beta": BETA, "rows": rows,
             "oracle": {"width": AGAINST, "seconds": statistics.median(slow), "times slower": ratio, "same groups": same}}  # fmt: skip
    out = Path(__file__).parent / "results" / "zipping.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
