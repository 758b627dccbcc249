"""Measures on weights: how alike models are, how long their task vectors, what masks keep."""

from mergekit_nb.analysis.distance import distances
from mergekit_nb.analysis.magnitude import magnitudes
from mergekit_nb.analysis.masks import densities
from mergekit_nb.analysis.matched import matched
from mergekit_nb.analysis.similarity import similarity

__all__ = ["densities", "distances", "magnitudes", "matched", "similarity"]
