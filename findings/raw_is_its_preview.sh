#!/usr/bin/env bash
# A phone's raw photo (DNG) is a picture of 160 x 120 to what reads TIFF, without a word about the other.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0 opencv-python-headless==5.0.0.93 tifffile==2026.3.3 rawpy==0.28.0 numpy==2.4.6
cd "$home"
"$python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import rawpy
import tifffile
from PIL import Image

# As DNG 1.7 recommends it: a preview first, what the sensor saw in a directory below. LibRaw says that it is one.
IDENTITY = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)
MAKER = [(271, 2, 0, "Maker", True), (272, 2, 0, "Phone", True), (50706, 1, 4, (1, 4, 0, 0), True)]
MAKER += [(50708, 2, 0, "Phone", True), (50721, 10, 9, IDENTITY, True), (50728, 5, 3, (1,) * 6, True), (50778, 3, 1, 21, True)]
BAYER = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, (0, 1, 1, 2), True), (50714, 3, 1, 64, True), (50717, 3, 1, 1023, True)]
with tifffile.TiffWriter("photo.dng") as file:
    preview, sensor = np.full((120, 160, 3), 99, np.uint8), np.full((1200, 1600), 500, np.uint16)
    file.write(preview, photometric="rgb", subfiletype=1, subifds=1, extratags=MAKER, metadata=None)
    file.write(sensor, photometric="cfa", subfiletype=0, extratags=BAYER, metadata=None)

print(", ".join(f"{name} {version(name)}" for name in ("pillow", "opencv-python-headless", "rawpy")))
print("assumed: a library opens the photo, or says that it cannot")
with rawpy.imread("photo.dng") as photo:
    whole = photo.sizes.width, photo.sizes.height
with Image.open("photo.dng") as picture:
    pillow = picture.format, picture.size, picture.n_frames
opencv = cv2.imread("photo.dng").shape[1::-1]
print(f"seen: LibRaw {whole}; Pillow a {pillow[0]} of {pillow[1]}, pictures in it: {pillow[2]}; OpenCV {opencv}")
sys.exit((whole, pillow, opencv) != ((1600, 1200), ("TIFF", (160, 120), 1), (160, 120)))
PYTHON
