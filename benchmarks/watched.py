"""One process, watched: what it said and what it took, however it ended."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.05  # seconds between two looks at its memory
MB, KB = 1e6, 1024


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        said: its standard output.
        why: the reason why it failed, in one line; "" where it did not.
        start: when it was started, in seconds since the epoch.
        wall: seconds until it had ended.
        cpu: CPU seconds of all its threads, and of the children it waited for.
        peak_mb: most memory it held at once, mapped files included; MB. At least what this process held when it was started.
    """

    said: str
    why: str
    start: float
    wall: float
    cpu: float
    peak_mb: float


def watched(command: list[str], memory: int, patience: float) -> Ended:
    """Run a command; kill it once it holds more than `memory` bytes of its own or is not done after `patience` seconds.

    Memory of its own is what the kernel cannot take back: mapped files are not counted. (`RLIMIT_DATA` counts them, as
    safetensors maps them, and what was only reserved.)
    """
    surroundings = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.time()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=surroundings)
        ended, killed = threading.Event(), []
        watch = threading.Thread(target=_watch, args=(process.pid, memory, patience, ended, killed))
        watch.start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its number is not given away before the watch ends
        wall = time.time() - start
        ended.set()
        watch.join()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        why = killed[0] if killed else _reason(process.returncode, err.read())
        return Ended(out.read(), why, start, wall, used.ru_utime + used.ru_stime, used.ru_maxrss * KB / MB)


def _watch(pid: int, memory: int, patience: float, ended: threading.Event, killed: list[str]) -> None:
    stop = time.monotonic() + patience
    while not ended.wait(EVERY):
        if own(pid) > memory:
            killed.append(f"killed: it held more than {memory / 1e9:.1f} GB")
        elif time.monotonic() > stop:
            killed.append(f"killed: not done after {patience:g} s")
        if killed:
            os.kill(pid, signal.SIGKILL)
            return


def own(pid: int) -> int:
    """Bytes that a process holds and that no file on the disk has; 0 where it is gone, or where there is no /proc."""
    return _status(pid, "RssAnon") + _status(pid, "RssShmem")


def held() -> float:
    """MB that this process holds now, mapped files included."""
    return _status(os.getpid(), "VmRSS") / MB or _most()


def most() -> float:
    """MB that this process held at once, mapped files included.

    `ru_maxrss` begins with what the parent held when it started this process; the kernel's high-water mark does not.
    """
    return _status(os.getpid(), "VmHWM") / MB or _most()


def _most() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KB / MB


def _status(pid: int, entry: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * KB for line in lines if line.startswith(f"{entry}:")), 0)


def _reason(code: int, errors: str) -> str:
    if code < 0:
        return f"killed by signal {-code}"
    return (errors.strip().splitlines() or [f"exit code {code}"])[-1][:200] if code else ""
