"""Small models, tasks they can be tested on, and panels that raise what goes wrong in them."""

from collections.abc import Iterator

import ipywidgets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.widgets.walk.study import Study, study

TASKS = ("mnist", "kana", "emoji")
SIDE, EMBED, CLASSES, IMAGES = 8, 16, 5, 40


class Net(nn.Module):
    """A stem, two blocks and a head: the names a layer slider is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(SIDE * SIDE, 12)
        self.blocks = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.head = nn.Linear(12, EMBED)

    def encode_image(self, images: Tensor) -> Tensor:
        features = self.stem(images.flatten(1))
        for block in self.blocks:
            features = features + torch.relu(block(features))
        return self.head(features)


@pytest.fixture(autouse=True)
def raise_what_panels_show(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Strict panels; comms closed after the test."""
    monkeypatch.setenv("MERGEKIT_NB_STRICT", "1")
    monkeypatch.delenv("MERGEKIT_NB_HEADLESS", raising=False)
    yield
    ipywidgets.Widget.close_all()


@pytest.fixture(scope="session")
def models() -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """A base and three experts around it, the later ones farther away."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = {name: weight.clone() for name, weight in Net().state_dict().items()}
    g = torch.Generator().manual_seed(1)
    experts = {
        task: {name: w + 0.05 * (1 + i) * torch.randn(w.shape, generator=g) for name, w in base.items()}
        for i, task in enumerate(TASKS)
    }
    return base, experts


@pytest.fixture(scope="session")
def tasks(models) -> dict[str, Task]:
    """Labels are what each expert says, so every expert is always right."""
    g = torch.Generator().manual_seed(2)
    return {task: make_task(task, expert, g) for task, expert in models[1].items()}


def make_task(name: str, expert: dict[str, Tensor], g: torch.Generator) -> Task:
    images = torch.randint(0, 255, (IMAGES, 1, SIDE, SIDE), generator=g, dtype=torch.uint8)
    head = F.normalize(torch.randn(CLASSES, EMBED, generator=g), dim=1)
    net = Net()
    net.load_state_dict(expert)
    with torch.no_grad():
        labels = (F.normalize(net.encode_image(scaled(images)), dim=1) @ head.T).argmax(1)
    return Task(name, tuple("abcde"), "{}", head, Net, lambda split: (images, labels), scaled)


def scaled(images: Tensor) -> Tensor:
    return images.float() / 255


@pytest.fixture(scope="session")
def small(models, tasks) -> Study:
    """The study of the small models."""
    return study(*models, tasks)
