"""Panels for notebooks: EMR-Merging walked through, similarity of task vectors, accuracy as you watch, a merge under way."""

from mergekit_nb.widgets.accuracy import Accuracy
from mergekit_nb.widgets.merging import Merging
from mergekit_nb.widgets.similarity import Similarity
from mergekit_nb.widgets.walk.panel import EmrWalk

__all__ = ["Accuracy", "EmrWalk", "Merging", "Similarity"]
