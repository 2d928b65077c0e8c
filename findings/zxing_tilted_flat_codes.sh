#!/usr/bin/env bash
# How far a linear code may be tilted is its height over its length: zxing-cpp loses a flat label at two degrees.
. "$(dirname "$0")/prepare.bash"
with_packages zxing-cpp==3.1.1 numpy==2.4.6 opencv-python-headless==5.0.0.93
"$python" - <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import zxingcpp

code = zxingcpp.create_barcode("IJHLRD77874C026456", zxingcpp.BarcodeFormat.Code39)
row = np.array(zxingcpp.write_barcode_to_image(code, scale=3))[20]


def last_read(height: int) -> int:
    """The last whole degree of tilt at which the code with bars of ``height`` pixels is read."""
    canvas = np.full((1100, 1100), 255, np.uint8)
    canvas[550 - height // 2 : 550 - height // 2 + height, 550 - len(row) // 2 :][:, : len(row)] = row
    for degrees in range(46):
        matrix = cv2.getRotationMatrix2D((550, 550), degrees, 1)
        turned = cv2.warpAffine(canvas, matrix, (1100, 1100), borderValue=255, flags=cv2.INTER_CUBIC)
        if not zxingcpp.read_barcodes(turned):
            return degrees - 1
    return 45


print("zxing-cpp", version("zxing-cpp"))
print("assumed: one tolerance for all, 'some ten degrees'")
holds = True
for height in (20, 40, 80, 150, 300):
    seen, bound = last_read(height), np.degrees(np.arctan(height / len(row)))
    print(f"seen: bars {height} px high, code {len(row)} px long: read to {seen} degrees, atan = {bound:.1f}")
    holds &= abs(seen - bound) <= 2.5
sys.exit(not holds)
PYTHON
