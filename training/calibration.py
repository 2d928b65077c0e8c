"""Probabilities out of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def platt(scores: Sequence[float], right: Sequence[bool], ridge: float = 0.0) -> tuple[float, float]:
    """Fit the slope and offset, on the logit, that make ``scores`` the probabilities of being ``right``.

    Logistic regression by Newton's method (Platt, 1999). ``ridge`` draws the slope toward 1, where there are
    few scores to fit it to. Without any the scores stay as they are: 1 and 0.
    """
    clipped = np.clip(np.asarray(scores, float), 1e-6, 1 - 1e-6)
    x, y = np.log(clipped / (1 - clipped)), np.asarray(right, float)
    if not len(x):
        return 1.0, 0.0
    line = np.array([1.0, 0.0])
    inputs = np.column_stack([x, np.ones_like(x)])
    # As much as nothing: where right and wrong do not overlap, the likeliest slope would be without end.
    pull = np.array([max(ridge, 1e-9), 1e-9])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(inputs @ line, -500, 500)))
        gradient = inputs.T @ (p - y) / len(x) + pull * (line - (1, 0))
        curvature = (inputs * (p * (1 - p))[:, None]).T @ inputs / len(x) + np.diag(pull)
        step = np.linalg.solve(curvature, gradient)
        line -= step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-9))
        if np.abs(step).max() < 1e-9:
            break
    return round(float(line[0]), 4), round(float(line[1]), 4)
