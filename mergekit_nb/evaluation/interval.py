"""How far a measured share can be from the true one."""

import numpy as np
from numpy.typing import ArrayLike

Z95 = 1.959963984540054  # the normal distribution leaves 2.5 % above it


def wilson(correct: ArrayLike, n: ArrayLike, z: float = Z95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a share: which true shares make `correct` out of `n` unsurprising.

    Unlike share ± error it stays inside [0, 1] and has width at 0 and at n.

    Args:
        correct: successes, element by element.
        n: trials, at least 1.
        z: standard normal quantile; the default gives 95 %.

    Returns:
        Low and high end, float64, shaped like the arguments.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference, JASA 22.
    """
    correct, n = np.asarray(correct, dtype=float), np.asarray(n, dtype=float)
    share = correct / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0, share), np.clip(centre + half, share, 1)


def mean_interval(accuracy: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[float, float]:
    """The interval of a plain mean over tasks, from the tasks' own intervals.

    Every task counts the same whatever its number of images, so pooling all images would answer another question.
    The tasks' images are independent, so the distances from share to limit add in squares ("MOVER"); with one task it
    is that task's interval, and it never leaves [0, 1]. It says how the mean would vary with other images of these
    tasks, nothing about other tasks or other training seeds. Methods see the same images, so their differences are
    surer than two overlapping intervals suggest.

    Source: Zou and Donner 2008, Construction of confidence limits about effect measures, Statistics in Medicine 27.
    """
    accuracy, low, high = (np.asarray(values, dtype=float) for values in (accuracy, low, high))
    below = np.sqrt(np.sum((accuracy - low) ** 2)) / accuracy.size
    above = np.sqrt(np.sum((high - accuracy) ** 2)) / accuracy.size
    return float(accuracy.mean() - below), float(accuracy.mean() + above)
