"""JupyterLab on the project's notebooks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

COPY = "mergekit-notebooks"  # beside the user, so that what is tried out there is kept and the installed originals stay whole
OFFLINE = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)


def start(notebook: str | None = None, options: Iterable[str] = ()) -> int:
    """Run JupyterLab until it is stopped; 1 where it failed, else 0.

    Args:
        notebook: the beginning of a notebook's name ("01"), or a path; None for the first one.
        options: handed on to JupyterLab, such as `--no-browser`.
    """
    process = subprocess.Popen(command(notebook, options))
    interrupted = False
    while True:
        try:
            failed = process.wait() != 0
            return int(failed and not interrupted)
        except KeyboardInterrupt:  # JupyterLab got it too, and asks whether to stop: that is its proper end
            interrupted = True


def command(notebook: str | None = None, options: Iterable[str] = ()) -> list[str]:
    """The command line of that JupyterLab. It prints the address, with the notebook in it, and opens a browser if it can."""
    path = find(notebook)
    # as root, which is usual in a container, JupyterLab starts only when told to
    root = ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    place = [f"--ServerApp.root_dir={path.parent}", f"--LabApp.default_url=/lab/tree/{path.name}"]
    return [sys.executable, "-m", "jupyterlab", *place, *OFFLINE, *root, *options]


def find(notebook: str | None = None) -> Path:
    """The notebook meant.

    Raises:
        FileNotFoundError: there is none of that name; the message lists those there are.
    """
    if notebook is not None and Path(notebook).is_file():
        return Path(notebook).resolve()
    there = sorted(folder().glob("*.ipynb"))
    found = [path for path in there if path.stem.startswith(Path(notebook or "").stem)]
    if not found:
        raise FileNotFoundError(
            f"no notebook {notebook or ''}; there are {', '.join(path.stem for path in there) or 'none'}"
        )
    return found[0]


def folder() -> Path:
    """Where the notebooks are: the checkout's own folder, or a copy of the installed ones in the current folder."""
    installed = Path(next(iter(find_spec("mergekit_nb.notebooks").submodule_search_locations)))
    if not {"site-packages", "dist-packages"} & set(installed.parts):
        return installed
    copy = Path.cwd() / COPY
    copy.mkdir(exist_ok=True)
    for file in installed.glob("*.ipynb"):
        if not (copy / file.name).exists():
            shutil.copy(file, copy)
    return copy
