#!/usr/bin/env bash
# A TIFF taken in portrait is no picture to OpenCV from a path, upright from memory whatever the flag, lying at half size.
. "$(dirname "$0")/prepare.bash"
with_packages opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
cd "$home"
"$python" - <<'PYTHON' 2>log || { rc=$?; [ "$rc" = 1 ] || cat log; exit "$rc"; }
import sys

import cv2
import numpy as np
from PIL import Image

KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif"}
FLAGS = {"full": cv2.IMREAD_COLOR, "at half": cv2.IMREAD_REDUCED_COLOR_2, "as it lies": cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION}
UPRIGHT = [(32, 64), (16, 32), (64, 32)]

print("opencv-python-headless", cv2.__version__)
print("assumed: a file and its bytes are one photo, full and at half the size; IMREAD_IGNORE_ORIENTATION leaves it as it lies")
seen = {}
for orientation in (3, 6):
    for kind, ending in KINDS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = f"{orientation}.{ending}"
        Image.new("RGB", (64, 32), "red").save(file, kind, exif=exif)
        data = np.fromfile(file, np.uint8)
        ways = [[cv2.imread(file, flag) for flag in FLAGS.values()], [cv2.imdecode(data, flag) for flag in FLAGS.values()]]
        seen[kind, orientation] = [[None if picture is None else picture.shape[1::-1] for picture in way] for way in ways]
for kind in KINDS:
    path, memory = seen[kind, 6]
    print(f"seen: {kind}, 64 x 32 with orientation 6, {', '.join(FLAGS)}: from its path {path}, from memory {memory}")
print(f"seen: TIFF with orientation 3, from its path {seen['TIFF', 3][0]}")
others = all(seen[kind, 6] == [UPRIGHT, UPRIGHT] for kind in KINDS if kind != "TIFF")
turned = seen["TIFF", 6] == [[None] * 3, [(32, 64), (32, 16), (32, 64)]]
sys.exit(not (others and turned and seen["TIFF", 3][0] == [(64, 32), (32, 16), (64, 32)]))
PYTHON
