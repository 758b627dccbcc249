"""A JupyterLab server of our own on loopback, thrown away afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

STARTS_WITHIN = 90  # seconds
# every cell in the page, so that tests find outputs below the fold; no news, no notifications
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Lab:
    """`with Lab(folder, private) as lab:` serves `folder`; settings, kernels and history live in `private`."""

    def __init__(self, folder: Path, private: Path):
        self.folder, self.private, self.port, self.token = folder, private, free_port(), "test"
        self.base = f"http://127.0.0.1:{self.port}"

    def url(self, notebook: str) -> str:
        """Address of a notebook in an empty workspace."""
        return f"{self.base}/lab/tree/{notebook}?token={self.token}&reset"

    def environment(self) -> dict[str, str]:
        """The caller's environment with Jupyter's own folders exchanged for private ones."""
        folders = {
            "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
        }  # fmt: skip
        path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
        own = {name: str(self.private / folder) for name, folder in folders.items()}
        return {**os.environ, **own, "PATH": path, "OMP_NUM_THREADS": "1"}

    def __enter__(self) -> Lab:
        for name, values in SETTINGS.items():
            file = self.private / "settings" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        self.log = (self.private / "server.log").open("w")
        command = [
            sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--expose-app-in-browser",
            "--LabApp.news_url=None", f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1",
            f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.folder}",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, env=self.environment(), stdout=self.log, stderr=self.log)
        self._wait()
        return self

    def _wait(self) -> None:
        until = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError("JupyterLab ended:\n" + Path(self.log.name).read_text()[-3000:])
            with contextlib.suppress(OSError):  # nobody listens yet
                urllib.request.urlopen(f"{self.base}/api?token={self.token}", timeout=5).read()
                return
            time.sleep(0.1)
        raise TimeoutError(f"JupyterLab did not answer within {STARTS_WITHIN} s; see {self.log.name}")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)  # one SIGTERM: the server shuts its kernels down and ends
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
