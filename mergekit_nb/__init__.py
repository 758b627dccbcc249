"""mergekit_nb: see, understand and use model merging."""

from mergekit_nb import methods
from mergekit_nb.align.pleas import pleas
from mergekit_nb.align.rebasin import align
from mergekit_nb.align.repair import repair
from mergekit_nb.align.root import root
from mergekit_nb.align.zipit import zipit
from mergekit_nb.analysis import magnitudes, similarity
from mergekit_nb.compare import compare
from mergekit_nb.engine.interpolate import blend, interpolate
from mergekit_nb.engine.merge import merge, plan
from mergekit_nb.engine.sweep import sweep
from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.evaluation.joint import joint, joints
from mergekit_nb.evaluation.tasks import Task
from mergekit_nb.methods import METHODS
from mergekit_nb.models.collect import collect
from mergekit_nb.models.flops import flops
from mergekit_nb.progress import Cancelled
from mergekit_nb.search import search
from mergekit_nb.tradeoff import tradeoff
from mergekit_nb.weights.merged import Merged, load
from mergekit_nb.weights.source import open
from mergekit_nb.weights.task_vectors import TaskVectors

__version__ = "0.1.0"
__all__ = [
    "METHODS",
    "Cancelled",
    "Merged",
    "Task",
    "TaskVectors",
    "align",
    "blend",
    "collect",
    "compare",
    "evaluate",
    "flops",
    "interpolate",
    "joint",
    "joints",
    "load",
    "magnitudes",
    "merge",
    "methods",
    "open",
    "plan",
    "pleas",
    "repair",
    "root",
    "search",
    "similarity",
    "sweep",
    "tradeoff",
    "zipit",
    "zoo",
]


def __getattr__(name: str):
    # the zoo's model is open_clip's, whose import takes seconds: it is paid for when the zoo is asked for
    if name == "zoo":
        import importlib

        return importlib.import_module("mergekit_nb.zoo")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
