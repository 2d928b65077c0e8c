#!/usr/bin/env bash
# OpenCV turns a TIFF upright at full size, and leaves it lying when it is asked for half the size.
. "$(dirname "$0")/prepare.bash"
with_packages opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import sys

import cv2
import numpy as np
from PIL import Image

print("opencv-python-headless", cv2.__version__)
print("assumed: IMREAD_REDUCED_COLOR_2 is the same photo at half the size")
seen = {}
for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    extra = {"tiffinfo": {0x0112: 6}} if kind == "TIFF" else {"exif": exif.tobytes()}
    Image.new("RGB", (64, 32), "red").save(file, kind, **extra)
    data = np.frombuffer(file.getvalue(), np.uint8)
    seen[kind] = [cv2.imdecode(data, flag).shape[1::-1] for flag in (cv2.IMREAD_COLOR, cv2.IMREAD_REDUCED_COLOR_2)]
    print(f"seen: {kind}, 64 x 32 with orientation 6: full {seen[kind][0]}, reduced {seen[kind][1]}")
upright = [(32, 64), (16, 32)]
sys.exit(seen != {"JPEG": upright, "PNG": upright, "WEBP": upright, "TIFF": [(32, 64), (32, 16)]})
PYTHON
