"""What was measured, as tables: every job, and the targets that were set before."""

from __future__ import annotations

from rich.table import Table

HEAD = ("", "wall s", "× limit", "CPU s", "MB above import", "process: wall s", "CPU s", "peak MB")
WALL = {"task arithmetic, ours": 2, "EMR, ours": 2, "TIES, ours": 4, "TIES per tensor, ours": 4, "PCB, ours": 8}
CPU = {"EMR, ours": "EMR, authors", "PCB, ours": "PCB, authors", "TIES per tensor, ours": "TIES per tensor, mergekit"}
FEWER, ROOM = 10, 1000  # times fewer CPU seconds; MB above import


def speed(found: dict) -> str:
    """The README's part: what was measured where, a table for every work, the targets."""
    lines = [f"{found['machine']}; {_versions(found)}."]
    for name, part in found["work"].items():
        lines += ["", f"**{name}**: {part['entries'] / 1e6:.0f} million weights each, {_rounds(part['runs'])}", ""]
        lines += _markdown([HEAD, *(cells(job, took, part["jobs"]) for job, took in part["jobs"].items())])
        lines += ["", *failures(part["jobs"])] if failures(part["jobs"]) else []
    return "\n".join([*lines, "", *_markdown(targets(found))])


def shown(name: str, jobs: dict[str, dict]) -> Table:
    """The same table for a terminal."""
    made = Table(*HEAD, title=name, caption="\n".join(failures(jobs)))
    for job, took in jobs.items():
        made.add_row(*cells(job, took, jobs))
    return made


def cells(job: str, took: dict, jobs: dict[str, dict]) -> list[str]:
    """A row: of a job that failed, what it had taken until then."""
    keys = ("wall", "× limit", "cpu", "above_import_mb", "process_wall", "process_cpu", "peak_mb")
    known = {**took, "× limit": took["wall"] / jobs["limit"]["wall"]} if "wall" in took else took
    sign = "> " if "failed" in took else ""
    return [job, *(f"{sign}{_rounded(known[key])}" if key in known else "–" for key in keys)]


def failures(jobs: dict[str, dict]) -> list[str]:
    """A line for every job that failed."""
    return [f"{job} was not done: {took['failed']}." for job, took in jobs.items() if "failed" in took]


def targets(found: dict) -> list[list[str]]:
    """What was to be reached, and what was, for every work."""
    work = [part["jobs"] for part in found["work"].values()]
    rows = [["target", *found["work"]]]
    for job, most in WALL.items():
        rows.append([f"{_method(job)}: wall at most {most} × the limit", *(_times(jobs, job, most) for jobs in work)])
    for job, rival in CPU.items():
        said = f"{_method(job)}: at least {FEWER} × fewer CPU s than {rival.rpartition(', ')[2]}"
        rows.append([said, *(_fewer(jobs, job, rival) for jobs in work)])
    rows.append([f"ours: under {ROOM} MB above import, each", *(_room(jobs) for jobs in work)])
    return [row for row in rows if any(cell != "–" for cell in row[1:])]


def _times(jobs: dict[str, dict], job: str, most: float) -> str:
    if "wall" not in jobs.get(job, {}):
        return "–"
    ratio = jobs[job]["wall"] / jobs["limit"]["wall"]
    return f"{_rounded(ratio)} × {_reached(ratio <= most and 'failed' not in jobs[job])}"


def _fewer(jobs: dict[str, dict], job: str, rival: str) -> str:
    if "cpu" not in jobs.get(job, {}) or "cpu" not in jobs.get(rival, {}):
        return "–"
    ratio, sign = jobs[rival]["cpu"] / jobs[job]["cpu"], "> " if "failed" in jobs[rival] else ""
    open_end = bool(sign) and ratio < FEWER
    reached = ratio >= FEWER and "failed" not in jobs[job]
    return f"{sign}{_rounded(ratio)} × {'**unknown**' if open_end else _reached(reached)}"


def _room(jobs: dict[str, dict]) -> str:
    ours = [took for job, took in jobs.items() if job in WALL and "wall" in took]
    if not ours:
        return "–"
    most = max(took["above_import_mb"] for took in ours)
    return f"{_rounded(most)} MB {_reached(most < ROOM and not any('failed' in took for took in ours))}"


def _reached(yes: bool) -> str:
    return "✓" if yes else "**missed**"


def _method(job: str) -> str:
    return job.rpartition(", ")[0]


def _rounded(value: float) -> str:
    """Three digits, and all of them before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rounds(count: int) -> str:
    return "one run" if count == 1 else f"medians of {count} interleaved runs"


def _markdown(rows: list) -> list[str]:
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *rest]


def _versions(found: dict) -> str:
    peers = [f"{name} {version}" for names in found["peers"].values() for name, version in names.items()]
    return ", ".join(dict.fromkeys([f"torch {found['torch'].partition('+')[0]}", *peers]))
