"""Networks of every kind that spaces are derived of, small, each with an input."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import mergekit_nb as mk
from mergekit_nb.models.resnet import ResNet


def picture(side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side)


class OptionA(nn.Module):
    """Two residual blocks; where the features double, the way around is padded with zeros (He et al. 2016, option A)."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.one, self.two = nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + self.two(F.relu(self.one(x))))
        return self.head(F.relu(x + self.last(x)).mean((2, 3)))


class Grouped(nn.Module):
    """Grouped and depthwise convolutions, as many outputs as inputs or twice as many, and group norm."""

    def __init__(self):
        super().__init__()
        self.stem, self.wider = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 24, 3, padding=1, groups=6)
        self.norm, self.depthwise = nn.GroupNorm(3, 24), nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.point, self.own = nn.Conv2d(24, 8, 1), nn.GroupNorm(8, 8)
        self.narrower, self.head = nn.Conv2d(8, 4, 3, groups=4), nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.wider(F.relu(self.stem(x)))))
        x = F.relu(self.own(self.point(self.depthwise(x))))
        return self.head(F.adaptive_avg_pool2d(self.narrower(x), 1).flatten(1))


class Language(nn.Module):
    """A small transformer on tokens, its output weights tied to its embedding."""

    def __init__(self, tied: bool):
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 16), nn.Parameter(torch.randn(6, 16))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=first) for first in (True, False)
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 11, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids) + self.places[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Attention(nn.Module):
    """Attention with q, k and v in one matrix, seen as (3, heads, channels); a gated layer; one token is read."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.qkv = nn.Linear(5, 12), nn.LayerNorm(12), nn.Linear(12, 36)
        self.out, self.gated, self.down, self.head = (
            nn.Linear(12, 12), nn.Linear(12, 20), nn.Linear(10, 12), nn.Linear(12, 3),
        )  # fmt: skip

    def forward(self, x):
        x = self.embed(x)
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 4, 3).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c))
        value, gate = self.gated(x).chunk(2, -1)
        return self.head((x + self.down(value * F.silu(gate)))[:, 0])


class Crossed(nn.Module):
    """`nn.MultiheadAttention` between two streams of different widths."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(5, 8), nn.Linear(4, 6)
        self.attention, self.head = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True), nn.Linear(8, 3)

    def forward(self, x, y):
        y = self.two(y)
        return self.head(self.attention(self.one(x), y, y)[0])


class Wide(nn.Module):
    """Concatenation, a split of its features, several pools, and a flatten of "c h w"."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.rest = (
            nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 4, 1), nn.Conv2d(5, 7, 3, padding=1),
        )  # fmt: skip
        self.norm, self.head = nn.BatchNorm2d(12), nn.Linear(12 * 4 + 12, 3)

    def forward(self, x):
        joined = torch.cat([F.relu(self.one(x)), self.two(x)], 1)
        x = self.norm(torch.cat([joined[:, :5], self.rest(joined[:, 5:])], 1))
        small = F.max_pool2d(F.avg_pool2d(x, 2), 2)
        return self.head(torch.cat([small.flatten(1), x.amax((2, 3))], 1))


class Written(nn.Module):
    """Features are written into parts of a tensor of zeros; more follow when the first part was already used."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three, self.head = nn.Linear(5, 4), nn.Linear(5, 3), nn.Linear(9, 6), nn.Linear(15, 2)

    def forward(self, x):
        board = torch.zeros(len(x), 9, dtype=x.dtype)
        board[:, :4] = F.relu(self.one(x))
        board[:, 4:7] = torch.tanh(self.two(x))
        return self.head(torch.cat([F.relu(self.three(board)), board], 1))


class Recurrent(nn.Module):
    """Two layers of gated units in both directions; the last state is read."""

    def __init__(self):
        super().__init__()
        self.units, self.head = nn.GRU(5, 6, 2, bidirectional=True, batch_first=True), nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.units(x)[0][:, -1])


def vision_tower() -> nn.Module:
    return open_clip.create_model("ViT-B-32").visual


def clip() -> nn.Module:
    return mk.zoo.load().model()


def words(model: nn.Module) -> Tensor:
    return torch.randint(1, model.vocab_size, (2, model.context_length))


def vgg(make: Callable[..., nn.Module]) -> nn.Module:
    """torchvision's, but for the hidden layers of its classifier, which have 120 million weights."""
    network = make(num_classes=5, init_weights=False)
    network.classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5)
    )
    return network


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.BatchNorm1d(7), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3))


def resnet20() -> nn.Module:
    return ResNet((8, 16, 32), (3, 3, 3))


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor | tuple]]] = {
    "mlp": (mlp, lambda _: torch.randn(4, 5)),
    "vgg11": (lambda: vgg(torchvision.models.vgg11), lambda _: picture(32, 1)),
    "vgg11_bn": (lambda: vgg(torchvision.models.vgg11_bn), lambda _: picture(32, 1)),
    "resnet20": (resnet20, lambda _: picture(16)),
    "option_a": (OptionA, lambda _: picture(8)),
    "resnet18": (torchvision.models.resnet18, lambda _: picture(32)),
    "resnet50": (torchvision.models.resnet50, lambda _: picture(32, 1)),
    "densenet121": (torchvision.models.densenet121, lambda _: picture(32, 1)),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, lambda _: picture(32)),
    "resnext50": (torchvision.models.resnext50_32x4d, lambda _: picture(32, 1)),
    "shufflenet": (torchvision.models.shufflenet_v2_x0_5, lambda _: picture(32)),
    "swin": (torchvision.models.swin_t, lambda _: picture(32, 1)),
    "grouped": (Grouped, lambda _: picture(8)),
    "wide": (Wide, lambda _: picture(8)),
    "attention": (Attention, lambda _: torch.randn(2, 4, 5)),
    "crossed": (Crossed, lambda _: (torch.randn(2, 4, 5), torch.randn(2, 7, 4))),
    "language": (lambda: Language(False), lambda _: torch.randint(0, 11, (2, 6))),
    "tied": (lambda: Language(True), lambda _: torch.randint(0, 11, (2, 6))),
    "written": (Written, lambda _: torch.randn(3, 5)),
    "recurrent": (Recurrent, lambda _: torch.randn(2, 4, 5)),
    "ViT-B-32": (vision_tower, lambda _: picture(224, 1)),
    "zoo": (clip, lambda model: (picture(32), words(model))),
}


LARGE = {"ViT-B-32"}  # float32 is exact enough, and float64 slow


def made(name: str, seed: int = 0) -> tuple[nn.Module, tuple]:
    """A network in float64 and eval mode, nothing in it 0 or 1 as it is when fresh, and inputs for it."""
    torch.manual_seed(seed)
    factory, example = ARCHITECTURES[name]
    dtype = torch.float32 if name in LARGE else torch.float64
    network = factory().to(dtype).eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(
                torch.rand(tensor.shape) + 0.5 if name.endswith("var") else torch.randn(tensor.shape) * 0.5 + 0.3
            )
    inputs = example(network)
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return network, tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
