"""FR-Merging's filter: which frequencies of a matrix stay.

Source: Zheng and Wang 2024, "FREE-Merging: Fourier Transform for Efficient Model Merging", arXiv:2411.16815, with the
authors' code.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frequency_weights(rows: int, columns: int, radius: float) -> Float[Tensor, "row column"]:
    """What each entry of an (unshifted) 2-D spectrum is multiplied by, float64.

    With d the distance to the entry (rows // 2, columns // 2), the highest frequency, and s the shorter side: 1 where
    d <= s // 10, plus 1 where s // 10 <= d <= radius * s; so 2 on the circle d = s // 10, as in the authors' code, and 0
    for the lowest frequencies.
    """
    y = torch.arange(rows, dtype=torch.float64)[:, None] - rows // 2
    x = torch.arange(columns, dtype=torch.float64) - columns // 2
    distance, side = (y**2 + x**2).sqrt(), min(rows, columns)
    inner = side // 10
    return (distance <= inner).double() + ((distance >= inner) & (distance <= radius * side)).double()


def high_pass(matrix: Float[Tensor, "*task row column"], radius: float) -> Float[Tensor, "*task row column"]:
    """The matrix with its spectrum weighted, real part."""
    kept = frequency_weights(*matrix.shape[-2:], radius).to(matrix)
    return torch.fft.ifft2(torch.fft.fft2(matrix) * kept).real
