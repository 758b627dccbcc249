"""mergekit_nb: see, understand and use model merging."""

from mergekit_nb import methods
from mergekit_nb.engine.merge import merge
from mergekit_nb.methods import METHODS
from mergekit_nb.progress import Cancelled
from mergekit_nb.weights.merged import Merged, load
from mergekit_nb.weights.source import open
from mergekit_nb.weights.task_vectors import TaskVectors

__version__ = "0.1.0"
__all__ = ["METHODS", "Cancelled", "Merged", "TaskVectors", "load", "merge", "methods", "open"]
