#!/usr/bin/env bash
# A faxed registration card is a negative to tifffile, imageio and scikit-image; with 16 bits it is one to Pillow and OpenCV too.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0 opencv-python-headless==5.0.0.93 tifffile==2026.3.3 imageio==2.38.1 \
  scikit-image==0.26.0 numpy==2.4.6
cd "$home"
"$python" - <<'PYTHON'
import sys

import cv2
import imageio.v3 as iio
import numpy as np
import skimage.io
import tifffile
from PIL import Image

WAYS = {
    "Image.open(path)": lambda path: np.asarray(Image.open(path)),
    "cv2.imread(path, IMREAD_UNCHANGED)": lambda path: cv2.imread(path, cv2.IMREAD_UNCHANGED),
    'iio.imread(path, plugin="pillow")': lambda path: iio.imread(path, plugin="pillow"),
    "iio.imread(path)": iio.imread,
    "skimage.io.imread(path)": skimage.io.imread,
    "tifffile.imread(path)": tifffile.imread,
}
TURNED = ("Image.open(path)", "cv2.imread(path, IMREAD_UNCHANGED)", 'iio.imread(path, plugin="pillow")')
DEPTHS = {1: np.bool_, 8: np.uint8, 16: np.uint16}

print("pillow 13.0.0, opencv-python-headless 5.0.0.93, tifffile 2026.3.3, imageio 2.38.1, scikit-image 0.26.0")
print("assumed: what is black on white to one of them (PhotometricInterpretation 0, WhiteIsZero) is so to all, at any depth")
for bits, kind in DEPTHS.items():
    ink = np.zeros((100, 400), kind)
    ink[40:60, 50:350] = 2**bits - 1
    tifffile.imwrite(f"{bits}.tif", ink, photometric="miniswhite")
holds = True
for way, opened in WAYS.items():
    seen = []
    for bits in DEPTHS:
        pixels = opened(f"{bits}.tif")
        is_white = pixels[10, 10] > pixels[50, 200]
        seen.append(f"{bits} bits: {'black on white' if is_white else 'white on black'}")
        holds = holds and bool(is_white) == (way in TURNED and bits <= 8)
    print(f"seen: {way}: {', '.join(seen)}")
sys.exit(not holds)
PYTHON
