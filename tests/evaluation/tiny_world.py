"""A world small enough to know the answers: eight-pixel images, linear encoders, random frozen heads."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from mergekit_nb.evaluation.tasks import Task

SPLITS = {"test": 1, "validation": 2, "calibration": 3}
PIXELS, EMBED, CLASSES = 8, 6, 4


class Encoder(nn.Module):
    """A linear image encoder with a part (`text`) that no source ever holds, as a CLIP has."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Linear(PIXELS, EMBED)
        self.text = nn.Linear(2, 2)

    def encode_image(self, images):
        return self.visual(images.flatten(1))


def encoder(seed=0):
    module = Encoder()
    random = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random)
    return module


def weights(seed):
    return {f"visual.{name}": tensor.detach() for name, tensor in encoder(seed).visual.state_dict().items()}


def preprocess(images):
    return images.float() / 127.5 - 1


def task(name, seed, n=50):
    """A task whose labels are the answers of the encoder made with the same seed, every fourth one moved."""
    head = F.normalize(torch.randn(CLASSES, EMBED, generator=torch.Generator().manual_seed(100 + seed)), dim=-1)

    def split(which):
        random = torch.Generator().manual_seed(1000 * seed + SPLITS[which])
        images = torch.randint(0, 256, (n, 1, 2, 4), generator=random, dtype=torch.uint8)
        labels = answers(encoder(seed), head, images)
        labels[::4] = (labels[::4] + 1) % CLASSES
        return images, labels

    classes = tuple(f"class {k}" for k in range(CLASSES))
    return Task(name, classes, "a picture of {}", head, encoder, split, preprocess)


def answers(module, head, images):
    with torch.no_grad():
        return (module.encode_image(preprocess(images)) @ head.T).argmax(1)


def world(names=("one", "two", "three"), n=50):
    """What compare needs of a zoo."""
    seeds = {name: k + 1 for k, name in enumerate(names)}
    return SimpleNamespace(
        name="tiny",
        base=weights(0),
        experts={name: weights(seed) for name, seed in seeds.items()},
        tasks={name: task(name, seed, n) for name, seed in seeds.items()},
    )
