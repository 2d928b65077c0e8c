"""Each function of numpy that the product names, called once.

    python tests/numpy_calls.py        # prints the names

``test_slim`` runs this against what an image holds of numpy, and compares the names with the sources: some
functions import a part of numpy that images lack only when they are called.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

ROW = np.arange(6.0)
TABLE = ROW.reshape(2, 3)

CALLS: dict[str, Callable[[], object]] = {
    "arange": lambda: np.arange(3),
    "argmax": lambda: np.argmax(TABLE, axis=1),
    "argsort": lambda: np.argsort(-ROW, kind="stable"),
    "argwhere": lambda: np.argwhere(TABLE > 1),
    "array": lambda: np.array([1, 2], np.float32),
    "asarray": lambda: np.asarray(ROW, np.uint8),
    "ascontiguousarray": lambda: np.ascontiguousarray(TABLE.T),
    "atleast_3d": lambda: np.atleast_3d(TABLE),
    "bincount": lambda: np.bincount([0, 1, 1], weights=[0.5, 1.0, 2.0]),
    "clip": lambda: np.clip(ROW, 0, ROW + 1),
    "concatenate": lambda: np.concatenate([ROW, ROW]),
    "cumsum": lambda: np.cumsum(ROW > 2),
    "diag": lambda: np.diag([1.0, 2.0]),
    "diff": lambda: np.diff(ROW),
    "empty": lambda: np.empty((2, 2), np.uint8),
    "eye": lambda: np.eye(3),
    "flatnonzero": lambda: np.flatnonzero(ROW > 2),
    "frombuffer": lambda: np.frombuffer(b"ab", np.uint8),
    "full": lambda: np.full((2, 2), 7),
    "hstack": lambda: np.hstack([TABLE, TABLE]),
    "interp": lambda: np.interp([0.5], [0, 1], [0, 2]),
    "linalg.inv": lambda: np.linalg.inv(np.eye(3)),
    "linspace": lambda: np.linspace(0, 1, 5, dtype=np.float32),
    "mean": lambda: np.mean(TABLE, axis=0),
    "ones": lambda: np.ones(3),
    "repeat": lambda: np.repeat(TABLE, 2, axis=1),
    "roll": lambda: np.roll(TABLE, 1, axis=0),
    "sort": lambda: np.sort(TABLE.astype(np.uint8), axis=None, kind="stable"),
    "stack": lambda: np.stack([ROW, ROW]),
    "take_along_axis": lambda: np.take_along_axis(TABLE, np.argsort(TABLE), axis=-1),
    "tile": lambda: np.tile(ROW, (2, 1)),
    "vstack": lambda: np.vstack([TABLE, ROW[:3]]),
    "where": lambda: np.where(ROW > 2, ROW, 0),
    "zeros": lambda: np.zeros((2, 2), bool),
}

if __name__ == "__main__":
    for call in CALLS.values():
        call()
    print(json.dumps(sorted(CALLS)))
