from __future__ import annotations

import numpy as np

from workflows.drawing.figures import Histogram


def test_histograms_count_as_numpy_does_and_lose_nothing_outside() -> None:
    histogram = Histogram((0.0, 0.25, 0.5, 1.0))
    values = np.random.default_rng(1).uniform(-0.5, 1.5, 500)
    for value in [*values, 0.25, 1.0, 0.0]:
        histogram.add(float(value), "review")
    expected, _ = np.histogram(np.clip([*values, 0.25, 1.0, 0.0], 0, 1), [0.0, 0.25, 0.5, 1.0])
    assert histogram.counts.tolist() == [[0, 0, 0], expected.tolist(), [0, 0, 0]]
