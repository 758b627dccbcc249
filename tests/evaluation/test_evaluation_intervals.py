import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mergekit_nb.evaluation.interval import mean_interval, wilson


@given(st.integers(1, 3000), st.floats(0, 1))
def test_wilson_is_scipys(n, share):
    correct = round(share * n)
    expected = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    np.testing.assert_allclose(np.ravel(wilson(correct, n)), [expected.low, expected.high], atol=1e-12)


def test_wilson_takes_columns_and_has_width_at_both_ends():
    low, high = wilson([0, 5, 10], [10, 10, 10])
    assert low[0] == 0
    assert high[2] == 1
    assert (low < high).all()
    np.testing.assert_allclose(low, 1 - high[::-1])


def test_the_mean_of_one_task_has_that_tasks_interval():
    low, high = wilson(7, 20)
    assert mean_interval([0.35], [low], [high]) == pytest.approx((float(low), float(high)))


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=1, max_size=8))
def test_the_means_interval_holds_the_mean_and_stays_within_0_and_1(tasks):
    n = np.array([n for n, _ in tasks])
    correct = np.array([round(n * share) for n, share in tasks])
    low, high = mean_interval(correct / n, *wilson(correct, n))
    assert -1e-12 <= low <= np.mean(correct / n) <= high <= 1 + 1e-12


def test_the_means_interval_covers_the_true_mean_about_95_times_in_100():
    random = np.random.default_rng(0)
    truth, n = np.array([0.97, 0.8, 0.55, 0.7, 0.9]), np.array([200, 100, 300, 50, 150])
    correct = random.binomial(n, truth, size=(4000, 5))
    ends = np.array([mean_interval(row / n, *wilson(row, n)) for row in correct])
    covered = np.mean((ends[:, 0] <= truth.mean()) & (truth.mean() <= ends[:, 1]))
    assert 0.935 < covered < 0.97
