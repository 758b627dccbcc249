import pytest
import torch

from mergekit_nb.evaluation.accuracy import evaluate
from mergekit_nb.widgets.variants import COLOUR, LABELS, PATTERN, subject


def added(study, models, task, form):
    """base + form(vector, mask, rescaler), tensor by tensor."""
    patch = study.merged.patches[task]
    return {n: models[0][n] + form(study.merged.vector[n], patch.mask[n], patch.scale) for n in models[0]}


FORMS = {
    "elect": lambda vector, mask, scale: vector,
    "mask": lambda vector, mask, scale: vector * mask,
    "rescale": lambda vector, mask, scale: scale * (vector * mask),
}


@pytest.mark.parametrize("variant", FORMS)
def test_a_variant_is_base_plus_its_vector(small, models, variant):
    merged = subject(small, variant, 0)
    for task in small.tasks:
        weights = merged.weights() if variant == "elect" else merged.weights(task)
        torch.testing.assert_close(weights, added(small, models, task, FORMS[variant]))


def test_merged_up_to_a_layer_takes_later_layers_from_the_tasks_own_expert(small, models):
    partial = subject(small, "partial", 1)
    for task in small.tasks:
        weights, merged = partial[task], small.merged.weights(task)
        for name in weights:
            early = name.startswith(("stem", "blocks.0"))
            torch.testing.assert_close(weights[name], merged[name] if early else models[1][task][name])


def test_merged_up_to_the_last_layer_is_emr(small):
    last = len(small.layers) - 1
    for task in small.tasks:
        torch.testing.assert_close(subject(small, "partial", last)[task], small.merged.weights(task))


def test_experts_are_as_good_as_they_should_be(small):
    table = evaluate(subject(small, "individual", 0), small.tests)
    assert (table["accuracy"] == 1).all(), "the labels are the experts' own answers"


def test_every_variant_has_a_look():
    assert set(COLOUR) == set(PATTERN) == set(LABELS)
    assert len(set(COLOUR.values())) == len(LABELS)
