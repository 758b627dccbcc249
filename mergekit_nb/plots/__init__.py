"""Figures: a DataFrame in, a plotly figure out."""

from mergekit_nb.plots.accuracy import accuracy_by_task, bytes_against_accuracy, means
from mergekit_nb.plots.competition import score_grid, search_history, share_by_layer
from mergekit_nb.plots.distance import distance_by_scale
from mergekit_nb.plots.family import accuracy_map, leaderboard
from mergekit_nb.plots.magnitude import magnitude_alignment
from mergekit_nb.plots.masks import density_and_rescaler, mask_density
from mergekit_nb.plots.path import score_along_path
from mergekit_nb.plots.pictures import picture_sheet
from mergekit_nb.plots.similarity import cosine_matrix, sign_conflict
from mergekit_nb.plots.theme import CONFIG, png, show
from mergekit_nb.plots.weights import weight_grid
from mergekit_nb.plots.zipping import accuracy_against_flops, matched_features

__all__ = [
    "CONFIG",
    "accuracy_against_flops",
    "accuracy_by_task",
    "accuracy_map",
    "bytes_against_accuracy",
    "cosine_matrix",
    "density_and_rescaler",
    "distance_by_scale",
    "leaderboard",
    "magnitude_alignment",
    "mask_density",
    "matched_features",
    "means",
    "picture_sheet",
    "png",
    "score_along_path",
    "score_grid",
    "search_history",
    "share_by_layer",
    "show",
    "sign_conflict",
    "weight_grid",
]
