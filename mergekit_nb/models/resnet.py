"""A small residual network for small pictures, of the kind that ZipIt! and Git Re-Basin are shown on."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3 x 3 convolutions with a way around them (He et al. 2016, arXiv:1512.03385, section 3.3).

    Where the shape changes the way around is a strided 3 x 3 convolution, as in ZipIt!'s released networks; He et al.
    pad with zeros or use 1 x 1.
    """

    def __init__(self, channels: int, wide: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, wide, stride), nn.BatchNorm2d(wide)
        self.conv2, self.bn2 = _conv(wide, wide, 1), nn.BatchNorm2d(wide)
        same = stride == 1 and channels == wide
        self.shortcut = nn.Sequential() if same else nn.Sequential(_conv(channels, wide, stride), nn.BatchNorm2d(wide))

    def forward(self, x: Tensor) -> Tensor:
        """float "b channels h w" -> "b wide h/stride w/stride"."""
        inside = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inside)) + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of blocks, the picture halved between them.

    Args:
        widths: features of each stage; the stem has those of the first.
        blocks: blocks in each stage; (3, 3, 3) is ResNet-20.
        outputs: numbers that come out: classes, or the length of an embedding.
        channels: of the pictures.
        stride: of the stem; 2 makes everything after it four times cheaper.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        blocks: Sequence[int] = (3, 3, 3),
        outputs: int = 10,
        channels: int = 3,
        stride: int = 1,
    ):
        super().__init__()
        first, second, third = widths
        self.conv1, self.bn1 = _conv(channels, first, stride), nn.BatchNorm2d(first)
        self.layer1 = _stage(first, first, blocks[0], 1)
        self.layer2 = _stage(first, second, blocks[1], 2)
        self.layer3 = _stage(second, third, blocks[2], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(third, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """float "b channels h w" -> "b outputs"."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.avgpool(x).flatten(1))

    def encode_image(self, x: Tensor) -> Tensor:
        """The same, under the name that CLIP's image towers have."""
        return self(x)


def _conv(channels: int, wide: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, wide, 3, stride, padding=1, bias=False)


def _stage(channels: int, wide: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [Block(wide, wide, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(channels, wide, stride), *rest)
