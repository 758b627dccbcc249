"""Fetch public packages by name, through the ordinary clients of their registries.

Nothing here knows an address: npm and apt use whatever registry the machine is set up for. Only the zoo's build calls
this module; loading a zoo never does.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

BATCH = 25  # packages per call of npm: starting the client costs more than a small package


def npm(specs: Iterable[str], folder: Path) -> dict[str, Path]:
    """Fetch npm packages as tarballs, skipping those that are there.

    Args:
        specs: ``NAME@VERSION``, one version pinned per package.
        folder: where the tarballs lie, created when missing.

    Returns:
        spec -> tarball, in the order asked for.

    Raises:
        FileNotFoundError: npm is not installed, or could not fetch one of the packages.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {spec: folder / _tarball(spec) for spec in specs}
    missing = [spec for spec, file in files.items() if not file.exists()]
    for start in range(0, len(missing), BATCH):
        _run(["npm", "pack", "--silent", *missing[start : start + BATCH]], folder)
    return files


def debian(package: str, folder: Path) -> Path:
    """Fetch a Debian package and unpack it under ``folder/package``, skipping what is there."""
    target = folder / package
    if not target.exists():
        part = folder / f"{package}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _run(["apt-get", "download", package], part)
        _run(["dpkg", "-x", *(str(deb) for deb in part.glob("*.deb")), str(part)])
        part.rename(target)
    return target


def members(tarball: Path) -> Iterator[tuple[str, bytes]]:
    """Path inside the package and content of every file of an npm tarball."""
    with tarfile.open(tarball) as tar:
        for entry in tar:
            if entry.isfile():
                yield entry.name.removeprefix("package/"), tar.extractfile(entry).read()


def read(tarball: Path, path: str) -> bytes:
    """One file of an npm tarball; FileNotFoundError names both."""
    for name, content in members(tarball):
        if name == path:
            return content
    raise FileNotFoundError(f"{tarball.name} has no file {path}")


def sha256(file: Path) -> str:
    """Hex digest of a file."""
    return digest(file.read_bytes())


def digest(content: bytes) -> str:
    """sha256 as hex."""
    return hashlib.sha256(content).hexdigest()


def _tarball(spec: str) -> str:
    name, _, version = spec.rpartition("@")
    if not name:
        raise ValueError(f"{spec} has no version; write NAME@VERSION")
    return f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"


def _run(command: list[str], cwd: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"building a zoo needs {command[0]}, which is not installed here")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise FileNotFoundError(f"{' '.join(command[:6])} failed: {done.stderr.strip()[-400:]}")
    return done.stdout
