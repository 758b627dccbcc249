"""Views: mappings of tensors whose shapes and dtypes are known before any is read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class Lazy(Mapping[str, Tensor]):
    """A mapping of tensors that are read, or made, when asked for."""

    @abstractmethod
    def __contains__(self, name: object) -> bool:
        """Without reading it, which is how a Mapping finds out by itself."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor."""

    @abstractmethod
    def dtype(self, name: str) -> torch.dtype:
        """The dtype of one tensor."""


class Under(Lazy):
    """The tensors of a view whose names begin with a prefix, under what is left of their names."""

    def __init__(self, whole: Lazy, prefix: str):
        self._whole, self._prefix = whole, prefix
        self._names = [name.removeprefix(prefix) for name in whole if name.startswith(prefix)]

    def __getitem__(self, name: str) -> Tensor:
        return self._whole[self._prefix + name]

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._whole.shape(self._prefix + name)

    def dtype(self, name: str) -> torch.dtype:
        return self._whole.dtype(self._prefix + name)


class Over(Lazy):
    """A mapping with some tensors laid over it."""

    def __init__(self, below: Mapping[str, Tensor], above: Mapping[str, Tensor]):
        self._below, self._above = below, above

    def __getitem__(self, name: str) -> Tensor:
        return self._above[name] if name in self._above else self._below[name]

    def __contains__(self, name: object) -> bool:
        return name in self._above or name in self._below

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._below, *self._above]))

    def __len__(self) -> int:
        return len(set(self._below) | set(self._above))

    def shape(self, name: str) -> tuple[int, ...]:
        lazy = name not in self._above and isinstance(self._below, Lazy)
        return self._below.shape(name) if lazy else tuple(self[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        lazy = name not in self._above and isinstance(self._below, Lazy)
        return self._below.dtype(name) if lazy else self[name].dtype


class Pairs(Mapping[str, tuple[Tensor, Tensor]]):
    """Two views of the same names, side by side."""

    def __init__(self, left: Mapping[str, Tensor], right: Mapping[str, Tensor]):
        self.left, self.right = left, right

    def __getitem__(self, name: str) -> tuple[Tensor, Tensor]:
        return self.left[name], self.right[name]

    def __contains__(self, name: object) -> bool:
        return name in self.left

    def __iter__(self) -> Iterator[str]:
        return iter(self.left)

    def __len__(self) -> int:
        return len(self.left)
