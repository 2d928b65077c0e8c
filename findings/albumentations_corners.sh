#!/usr/bin/env bash
# albumentations mirrors corners as pixels and enlarges them as points of a plane: whichever they are, one of the two is off.
. "$(dirname "$0")/prepare.bash"
with_packages albumentations==2.0.8 opencv-python-headless==5.0.0.93 numpy==2.4.6
NO_ALBUMENTATIONS_UPDATE=1 "$python" - <<'PYTHON'
import sys

import albumentations as A
import numpy as np

LEFT, TOP, RIGHT, BOTTOM = 40, 30, 104, 54  # of a white plate; the last column is 103, the last row 53
picture = np.zeros((100, 200, 3), np.uint8)
picture[TOP:BOTTOM, LEFT:RIGHT] = 255
# Where the corners are, in columns and rows: on the plate's edges, or its outermost pixels, each named by its column.
WAYS = {"edges": (LEFT, RIGHT), "outermost pixels": (LEFT, RIGHT - 1)}
MIRRORED, ENLARGED = A.HorizontalFlip(p=1), A.Resize(400, 800, p=1)
STEPS = {"mirrored": [MIRRORED], "four times as large": [ENLARGED], "both": [MIRRORED, ENLARGED]}

print("albumentations", A.__version__)
print("assumed: the corners of a plate stay at its corners, whether these are its edges or its outermost pixels")
off = {}
for step, transforms in STEPS.items():
    for way, (left, right) in WAYS.items():
        compose = A.Compose(
            transforms,
            bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"]),
            keypoint_params=A.KeypointParams("xy"),
        )
        points = [(left, TOP), (right, TOP)]
        made = compose(image=picture, bboxes=[(LEFT, TOP, RIGHT, BOTTOM)], labels=[0], keypoints=points)
        columns = np.flatnonzero(made["image"][..., 0].max(axis=0) > 127)
        edges = columns[0], columns[-1] + 1
        box = made["bboxes"][0][0], made["bboxes"][0][2]
        zoom = made["image"].shape[1] // picture.shape[1]
        # The outermost pixels of the plate as it was are blocks of `zoom` now: the middle of one, in its columns.
        true = edges if way == "edges" else (edges[0] + (zoom - 1) / 2, edges[1] - (zoom + 1) / 2)
        seen = sorted(float(x) for x, _ in made["keypoints"])
        off[step, way] = [float(found - where) for found, where in zip(seen, true, strict=True)]
        print(f"seen: {step}: box {'right' if np.allclose(box, edges) else 'off'}, corners as {way} off by {off[step, way]} pixels")
sys.exit(
    off
    != {
        ("mirrored", "edges"): [-1, -1],
        ("mirrored", "outermost pixels"): [0, 0],
        ("four times as large", "edges"): [0, 0],
        ("four times as large", "outermost pixels"): [-1.5, -1.5],
        ("both", "edges"): [-4, -4],
        ("both", "outermost pixels"): [-1.5, -1.5],
    }
)
PYTHON
