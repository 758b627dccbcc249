"""Many small pictures in one PNG: a contact sheet, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

SIDE, ACROSS = 32, 25  # pixels of a picture's side; pictures in a row


def write_sheet(file: Path, images: np.ndarray) -> None:
    """Write uint8 "n 32 32 3" as one PNG, grey where all pictures are; the last row is filled up with black."""
    grey = bool((images == images[..., :1]).all())
    short = -len(images) % ACROSS
    full = np.concatenate([images, np.zeros((short, *images.shape[1:]), np.uint8)])
    sheet = rearrange(full, "(down across) y x c -> (down y) (across x) c", across=ACROSS)
    Image.fromarray(sheet[..., 0] if grey else sheet).save(file, optimize=True)


def read_sheet(file: Path, count: int) -> Tensor:
    """The first ``count`` pictures of a sheet, uint8 "n 3 32 32"; a grey sheet gives three equal channels."""
    with Image.open(file) as picture:
        sheet = torch.from_numpy(np.array(picture.convert("RGB")))
    pictures = rearrange(sheet, "(down y) (across x) c -> (down across) c y x", y=SIDE, x=SIDE)
    return pictures[:count].contiguous()
