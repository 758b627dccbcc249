"""Panels for notebooks: EMR- and PCB-Merging walked through, similarity of task vectors, accuracy as you watch, any method tuned by hand, strangers zipped, a merge under way."""

from mergekit_nb.widgets.accuracy import Accuracy
from mergekit_nb.widgets.competition.panel import Competition
from mergekit_nb.widgets.merging import Merging
from mergekit_nb.widgets.similarity import Similarity
from mergekit_nb.widgets.tune.panel import Tune
from mergekit_nb.widgets.walk.panel import EmrWalk
from mergekit_nb.widgets.zipwalk.panel import ZipWalk

__all__ = ["Accuracy", "Competition", "EmrWalk", "Merging", "Similarity", "Tune", "ZipWalk"]
