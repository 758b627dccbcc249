"""A similarity matrix that shrinks: take its largest entry, join the two features, again; with one maximum kept per row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Damp = Callable[[np.ndarray], np.ndarray]  # what the similarities of a joined feature are multiplied by


class Shrinking:
    """Features that are joined two by two, most similar first.

    Nothing is deleted: a row and a column that are gone are -inf, so features keep their numbers and the first maximum in
    row-major order is the one that the smaller matrix would have. Every row knows its first maximum, or, once an entry
    that may have been it was lowered, a bound; the maximum is looked for again only in the row whose bound is largest. So
    a step costs O(features), where the authors' code looks at the whole matrix. Rows and columns are kept apart: a
    similarity computed in float32 may not be symmetric to the last bit.

    Attributes:
        similarity: "feature feature"; a copy, its diagonal -inf.
        alive: "feature", whether a feature still stands for itself or for those joined to it.
        pairs: what was joined so far, (kept, joined to it).
        members: of every feature that is left, those joined to it, itself included.
    """

    def __init__(self, similarity: np.ndarray, damp: Damp):
        self.similarity = similarity.copy()
        np.fill_diagonal(self.similarity, -np.inf)
        self.damp = damp
        self.alive = np.ones(len(similarity), dtype=bool)
        self.pairs: list[tuple[int, int]] = []
        self.members = {i: [i] for i in range(len(similarity))}
        self.best = self.similarity.argmax(1)  # the column of a row's first maximum
        self.top = self.similarity[np.arange(len(similarity)), self.best]  # that maximum, or a bound where it is stale
        self.stale = np.zeros(len(similarity), dtype=bool)

    def first(self) -> tuple[int, int] | None:
        """The first largest entry in row-major order as (smaller, larger) number; None where every pair is ruled out."""
        while self.stale[row := int(self.top.argmax())]:
            self._look(row)
        if self.top[row] == -np.inf:
            return None
        column = int(self.best[row])
        return min(row, column), max(row, column)

    def join(self, low: int, high: int) -> None:
        """Join two features: the first takes the smaller of the two similarities to every other, damped."""
        s = self.similarity
        column = self.damp(np.minimum(s[:, low], s[:, high]))
        s[:, low], s[:, high] = column, -np.inf
        s[low], s[high] = self.damp(np.minimum(s[low], s[high])), -np.inf
        self.alive[high], self.top[high] = False, -np.inf
        self.pairs.append((low, high))
        self.members[low] += self.members.pop(high)
        self._mend(low, high, s[:, low])

    def drop(self, feature: int) -> None:
        """Take a feature out, with all that was joined to it."""
        self.similarity[feature], self.similarity[:, feature] = -np.inf, -np.inf
        self.alive[feature], self.top[feature] = False, -np.inf
        del self.members[feature]
        self.stale |= self.best == feature

    def count(self) -> int:
        """How many features are left."""
        return len(self.members)

    def groups(self) -> list[tuple[int, ...]]:
        """The members of each feature that is left, in the order of the features' numbers."""
        return [tuple(sorted(self.members[i])) for i in sorted(self.members)]

    def forbid(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Rule out every pair of one of these features with one of those, both ways."""
        self.similarity[np.ix_(rows, columns)] = -np.inf
        self.similarity[np.ix_(columns, rows)] = -np.inf
        self.stale[rows] = self.stale[columns] = True

    def _look(self, row: int) -> None:
        """Find a row's first maximum."""
        self.best[row] = self.similarity[row].argmax()
        self.top[row], self.stale[row] = self.similarity[row, self.best[row]], False

    def _mend(self, low: int, high: int, column: np.ndarray) -> None:
        """Keep maxima and bounds right after a column was replaced and another left out."""
        lowered = ((self.best == low) | (self.best == high)) & (column < self.top)
        higher = (column > self.top) | (~self.stale & (column == self.top) & (low < self.best))
        self.top[higher], self.best[higher] = column[higher], low
        self.stale = (self.stale | lowered) & ~higher
        self._look(low)
