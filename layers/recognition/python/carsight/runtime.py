"""Opening ONNX models, with no more threads than the function has processors, and preparing their input."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carsight.geometry import Pixels

_Made = TypeVar("_Made")

MODELS = Path(__file__).with_name("models")
"""The folder of the models that ship with the package."""

_MEGABYTES_PER_VCPU = 1769
"""Lambda gives one vCPU per 1,769 MB of memory (AWS Lambda Developer Guide, "Configure memory")."""


def threads() -> int:
    """Return how many threads one inference should use: the whole vCPUs of the function, at least 1.

    Two threads on one vCPU were measured to be twice as slow as one, so a share below two counts as one.
    Outside Lambda it is 1 as well, as many callers may share a recognizer.
    """
    memory = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    return max(1, math.floor(int(memory) / _MEGABYTES_PER_VCPU)) if memory else 1


def session(path: Path) -> ort.InferenceSession:
    """Open the model at ``path`` for the CPU. Safe to run from many threads at once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Waiting threads must not burn the vCPU share that other work is billed for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Each model's arena would keep the memory that its largest input has taken: 42 MB after some 600 photos.
    # The C library's heap is shared by all models and returns memory, for the same CPU time.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def once(make: Callable[[], _Made]) -> Callable[[], _Made]:
    """Return a function that calls ``make`` the first time, and returns the same result from then on.

    Threads that call it at the same time wait. If ``make`` raises, the caller gets the error and the next
    call tries again.
    """
    lock = Lock()
    made: list[_Made] = []

    def get() -> _Made:
        if not made:
            with lock:
                if not made:
                    made.append(make())
        return made[0]

    return get


def picture_input(
    session: ort.InferenceSession, *, centered: bool = False
) -> Callable[[Sequence[Pixels]], NDArray[Any]]:
    """Return the function that turns pictures (B of H x W x 3, BGR) into the ``image`` of ``session``.

    The input is either B x 3 x H x W float32, 0..1, or -1..1 where it is ``centered``, or B x H x W/g x 3g
    uint8, the pictures' bytes in groups of g pixels (training/model_files.py).
    """
    (image,) = session.get_inputs()
    if image.type != "tensor(uint8)":
        return partial(floats, centered=centered)
    size = image.shape[3] // 3
    return lambda pictures: groups(pictures, size)


def floats(pictures: Sequence[Pixels], *, centered: bool = False) -> NDArray[np.float32]:
    """Return pictures (H x W x 3) as B x 3 x H x W, 0..1, or -1..1 if ``centered``."""
    half = 127.5
    blob = (
        cv2.dnn.blobFromImages(pictures, 1 / half, mean=(half, half, half))
        if centered
        else cv2.dnn.blobFromImages(pictures, 1 / 255)
    )
    return np.asarray(blob, np.float32)


def groups(pictures: Sequence[Pixels], size: int) -> Pixels:
    """Return pictures (H x W x 3) as B x H x W/s x 3s: each ``size`` pixels of a row become one."""
    height, width = pictures[0].shape[:2]
    laid = np.ascontiguousarray(pictures[0] if len(pictures) == 1 else np.stack(pictures))
    return laid.reshape(len(pictures), height, width // size, 3 * size)
