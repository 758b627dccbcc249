"""How much memory a merge may hold, and how much its pieces take."""

from __future__ import annotations

import os
import re
from pathlib import Path

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
SHARE = 4  # a merge takes this part of what is free, when nobody says how much
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container: version 2, 1
USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def parse(size: str | int, what: str = "memory") -> int:
    """A number of bytes: 2000000000, "2GB", "1.5 GiB".

    Raises:
        ValueError: it is none, or not above 0.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]i?|)b?\s*", str(size).lower())
    try:
        count = int(float(found[1]) * UNITS[found[2]])
    except (TypeError, ValueError):
        count = 0
    if count <= 0:
        raise ValueError(f'{what} is a number of bytes, such as "2GB" or 2_000_000_000; got {size!r}')
    return count


def free() -> int:
    """Bytes of memory that can be had without swapping, in this container where there is one."""
    found = [_available()]
    for limit, used in zip(LIMITS, USED, strict=True):
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such container, or one without a limit, which says "max"
            continue
    return max(min(found), 0)


def said(count: float) -> str:
    """A number of bytes for people: "1.4 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # no Linux: half of all there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
