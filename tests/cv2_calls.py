"""Each OpenCV function that the product names, called once as the product calls it.

    python tests/cv2_calls.py        # prints the names

``test_slim`` runs this against what an image holds of OpenCV; ``test_elf_stubs`` compares the names with the
sources.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import cv2
import numpy as np

GRAY = np.tile(np.arange(0, 250, 5).astype(np.uint8), (40, 1))
COLOR = np.dstack([GRAY] * 3)
QUAD = np.array([(2, 2), (40, 4), (41, 30), (1, 33)], np.float32)
TARGET = np.array([(0, 0), (64, 0), (64, 32), (0, 32)], np.float32)
AFFINE = np.array([(0.9, 0.1, 2), (-0.1, 0.9, 3)], np.float32)
WARPS = ((cv2.INTER_LINEAR, cv2.BORDER_REPLICATE), (cv2.INTER_AREA, cv2.BORDER_CONSTANT))

# Nine by nine pixels of one color.
WEBP = bytes.fromhex("524946461e000000574542505650384c110000002f0800020007509e5214b9ff8188e87f0000")


CALLS: dict[str, Callable[[], object]] = {
    "dnn.blobFromImages": lambda: [
        cv2.dnn.blobFromImages([COLOR, COLOR], 1 / 255, mean=(mean, mean, mean)) for mean in (0.0, 127.5)
    ],
    "utils.logging.setLogLevel": lambda: cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT),
    "GaussianBlur": lambda: [
        cv2.GaussianBlur(GRAY, (3, 3), 0),
        cv2.GaussianBlur(GRAY.mean(axis=1)[:, None], (1, 9), 0),
        cv2.GaussianBlur(GRAY.astype(np.float32), (7, 7), 1.0),
    ],
    "LUT": lambda: cv2.LUT(GRAY, np.arange(256, dtype=np.uint8)),
    "Sobel": lambda: cv2.Sobel(GRAY, cv2.CV_16S, 1, 0),
    "absdiff": lambda: cv2.absdiff(GRAY[:, 1:], GRAY[:, :-1]),
    "add": lambda: cv2.add(COLOR, COLOR),
    "addWeighted": lambda: [
        cv2.addWeighted(GRAY.astype(kind), 4, GRAY.astype(kind), -3, 0) for kind in (np.uint8, np.float32)
    ],
    "bitwise_not": lambda: cv2.bitwise_not(COLOR),
    "blur": lambda: cv2.blur(GRAY, (41, 41)),
    "connectedComponentsWithStats": lambda: cv2.connectedComponentsWithStats((GRAY > 100).astype(np.uint8)),
    "connectedComponentsWithStatsWithAlgorithm": lambda: cv2.connectedComponentsWithStatsWithAlgorithm(
        (GRAY > 100).astype(np.uint8), 8, cv2.CV_32S, cv2.CCL_BBDT
    ),
    "convertScaleAbs": lambda: cv2.convertScaleAbs(cv2.Sobel(GRAY, cv2.CV_16S, 0, 1)),
    "copyMakeBorder": lambda: cv2.copyMakeBorder(COLOR, 1, 2, 3, 4, cv2.BORDER_CONSTANT, value=(9, 9, 9)),
    "cvtColor": lambda: [
        *(cv2.cvtColor(COLOR, code) for code in (cv2.COLOR_BGR2GRAY, cv2.COLOR_BGR2RGB, cv2.COLOR_BGR2BGRA)),
        cv2.cvtColor(GRAY, cv2.COLOR_GRAY2BGR),
        *(cv2.cvtColor(np.dstack([GRAY] * 4), code) for code in (cv2.COLOR_BGRA2BGR, cv2.COLOR_RGBA2BGRA)),
    ],
    "flip": lambda: [cv2.flip(COLOR, code) for code in (-1, 0, 1)],
    "floodFill": lambda: cv2.floodFill(GRAY.copy(), None, (20, 20), 0, 9, 9, 8 | cv2.FLOODFILL_FIXED_RANGE),
    "getAffineTransform": lambda: cv2.getAffineTransform(QUAD[:3], TARGET[:3]),
    "getPerspectiveTransform": lambda: cv2.getPerspectiveTransform(QUAD, TARGET),
    "getRotationMatrix2D": lambda: cv2.getRotationMatrix2D((20, 20), 30, 1.0),
    "getTextSize": lambda: cv2.getTextSize("7KMR204", cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2),
    "imdecode": lambda: cv2.imdecode(np.frombuffer(WEBP, np.uint8), cv2.IMREAD_UNCHANGED),
    "moments": lambda: cv2.moments(GRAY, binaryImage=True),
    "morphologyEx": lambda: [
        cv2.morphologyEx(GRAY, operation, np.ones((3, 9), np.uint8))
        for operation in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN, cv2.MORPH_GRADIENT)
    ],
    "multiply": lambda: cv2.multiply(COLOR, COLOR, scale=1 / 255),
    "perspectiveTransform": lambda: cv2.perspectiveTransform(QUAD[None], np.eye(3, dtype=np.float32)),
    "polylines": lambda: cv2.polylines(
        COLOR.copy(), [QUAD.astype(np.int32)], True, (0, 255, 0), 2, cv2.LINE_AA
    ),
    "putText": lambda: cv2.putText(
        COLOR.copy(), "7KMR204", (2, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
    ),
    "rectangle": lambda: cv2.rectangle(COLOR.copy(), (1, 1), (20, 20), (0, 0, 0), cv2.FILLED),
    "resize": lambda: [
        cv2.resize(picture, size, interpolation=method)
        for picture in (COLOR, GRAY, COLOR.astype(np.float32))
        for size in ((25, 20), (90, 33))
        for method in (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4, cv2.INTER_NEAREST)
    ],
    "rotate": lambda: [
        cv2.rotate(COLOR, code)
        for code in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)
    ],
    "split": lambda: cv2.split(COLOR),
    "threshold": lambda: cv2.threshold(GRAY, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU),
    "transpose": lambda: cv2.transpose(COLOR),
    "warpAffine": lambda: [
        cv2.warpAffine(COLOR, AFFINE, (64, 32), flags=flags, borderMode=border) for flags, border in WARPS
    ],
    "warpPerspective": lambda: [
        cv2.warpPerspective(
            COLOR, np.eye(3, dtype=np.float32), (64, 32), flags=cv2.INTER_LINEAR, borderMode=border
        )
        for border in (cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT)
    ],
}

if __name__ == "__main__":
    for call in CALLS.values():
        call()
    print(json.dumps(sorted(CALLS)))
