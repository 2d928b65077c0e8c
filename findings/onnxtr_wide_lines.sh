#!/usr/bin/env bash
# OnnxTR reads a long line in parts, and joins parts that were read without a fault to a VIN of 19 characters.
. "$(dirname "$0")/prepare.bash"
with_packages onnxtr==0.9.0 onnxruntime==1.31.1 opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$home"
"$python" - <<'PYTHON' 2>log || { rc=$?; [ "$rc" = 1 ] || cat log; exit "$rc"; }
import random
import sys
from importlib.metadata import version

import numpy as np
from onnxtr.models.recognition.predictor import RecognitionPredictor

VINS, HEIGHT = 1000, 32
ALPHABET = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"


def draw(vin, width):
    """A line whose columns hold the place of their character in the alphabet: what no reader could misread."""
    columns = np.repeat([ALPHABET.index(character) for character in vin], width)
    edges = np.tile(np.arange(width) == 0, len(vin))
    return np.stack([columns, edges, columns], axis=-1)[None].repeat(HEIGHT, axis=0).astype(np.uint8)


def read(line, width):
    """Each character of which at least half is in ``line``, sure of every one."""
    starts = np.flatnonzero(line[0, :, 1])
    parts = np.split(line[0, :, 0], starts[starts > 0])
    return "".join(ALPHABET[part[0]] for part in parts if len(part) >= width / 2), 1.0


random.seed(1)
vins = [f"WDB{''.join(random.choices(ALPHABET, k=8))}{random.randrange(10**6):06}" for _ in range(VINS)]
print("onnxtr", version("onnxtr"), f"- {VINS} VINs as lines of 17 equally wide characters, and a reader that makes no mistakes")
print("assumed: a line that is read without a mistake in overlapping parts is joined without one, or its score tells")
wrong = {}
for width in (15, 20, 22, 23, 25):
    predictor = RecognitionPredictor(
        pre_processor=lambda crops: [crops],
        model=lambda crops: {"preds": [read(crop, width) for crop in crops]},
    )
    answers = predictor([draw(vin, width) for vin in vins])
    bad = [(vin, text, score) for vin, (text, score) in zip(vins, answers, strict=True) if text != vin]
    wrong[width] = len(bad)
    example = f", such as {bad[0][0]}, read as {bad[0][1]} with a score of {bad[0][2]}" if bad else ""
    print(f"seen: {17 * width / HEIGHT:.1f} times as wide as high: {len(bad)} of {VINS} wrong{example}")
sys.exit(not (wrong[15] == wrong[25] == 0 and all(20 <= wrong[width] <= 60 for width in (20, 22, 23))))
PYTHON
