"""A small CLIP: open_clip's own model in a custom configuration, its words, and zero-shot heads from prompts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor, nn

PAD, BYTES = 0, 256  # token ids: padding, then the bytes 1..255, then words, then start and end
MEAN, SPREAD = 127.5, 70.0  # of the pixel values 0..255 of the training pictures, rounded


def build(config: Mapping[str, Any]) -> CLIP:
    """A fresh, randomly initialised open_clip CLIP.

    Args:
        config: keyword arguments of ``open_clip.model.CLIP``: ``embed_dim``, ``vision_cfg``, ``text_cfg``, ``quick_gelu``.
    """
    return CLIP(**config)


@dataclass(frozen=True)
class Tokenizer:
    """Whole words, and bytes for what is no known word.

    Attributes:
        words: the vocabulary, most frequent first; word ``k`` has id ``256 + k``.
        context: tokens a text is cut or padded to, start and end included.
    """

    words: tuple[str, ...]
    context: int

    @property
    def size(self) -> int:
        """Number of ids: bytes, words, start and end."""
        return BYTES + len(self.words) + 2

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Ids of each text, int64 "text context"; the end has the largest id, where open_clip reads the text off."""
        number = {word: BYTES + place for place, word in enumerate(self.words)}
        rows = torch.full((len(texts), self.context), PAD, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            body = [token for word in split(text) for token in ([number[word]] if word in number else word.encode())]
            ids = [self.size - 2, *body[: self.context - 2], self.size - 1]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    @classmethod
    def learn(cls, texts: Iterable[str], words: int, context: int) -> Tokenizer:
        """The ``words`` most frequent words of some texts; ties go to the word met first."""
        counted = Counter(word for text in texts for word in split(text))
        return cls(tuple(word for word, _ in counted.most_common(words)), context)

    def save(self, path: Path) -> None:
        """Write the vocabulary as json."""
        path.write_text(json.dumps({"context": self.context, "words": self.words}, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a vocabulary that `save` wrote."""
        stored = json.loads(path.read_text())
        return cls(tuple(stored["words"]), stored["context"])


def split(text: str) -> list[str]:
    """The lower-case words of a text, and every other sign by itself."""
    return re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower())


def preprocess(images: Tensor) -> Tensor:
    """Pixels uint8 "n 3 h w" -> float32 of the same shape, near zero mean and unit spread."""
    return (images.float() - MEAN) / SPREAD


@torch.no_grad()
def heads(model: nn.Module, tokenizer: Tokenizer, prompt: str, classes: Sequence[str]) -> Tensor:
    """The zero-shot classifier of a task: one text, embedded, per class (Radford et al. 2021, arXiv:2103.00020, 3.1).

    Args:
        model: a CLIP with ``encode_text``.
        prompt: a text with one ``{}`` where the class name goes.

    Returns:
        float32 "class embed", unit rows, on the model's device.
    """
    device = next(model.parameters()).device
    tokens = tokenizer([prompt.format(name) for name in classes]).to(device)
    return nn.functional.normalize(model.encode_text(tokens).float(), dim=-1)
