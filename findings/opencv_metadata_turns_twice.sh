#!/usr/bin/env bash
# A phone photo that OpenCV reads and writes with its metadata is turned twice: upright pixels, and the order to turn them.
. "$(dirname "$0")/prepare.bash"
with_packages opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
cd "$home"
"$python" - <<'PYTHON'
import io
import sys

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

# `ApplyExifOrientation` (imgcodecs/src/loadsave.cpp) turns the pixels; the Exif is handed over as it stands in the file.
LYING, UPRIGHT = (64, 32), (32, 64)
exif = Image.Exif()
exif[ExifTags.Base.Orientation] = 6
exif[ExifTags.Base.Make] = "Phone"


def shown(file):
    """Width and height as viewers, Pillow's `exif_transpose` and OpenCV itself show a photo."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    read = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    return picture.size if picture.size == read.shape[1::-1] else None


print(f"opencv-python-headless {cv2.__version__}")
print("assumed: what imdecodeWithMetadata gives, imencodeWithMetadata writes as the same photo")
holds = True
for kind in ("JPEG", "PNG", "WEBP"):
    photo = io.BytesIO()
    Image.new("RGB", LYING).save(photo, kind, exif=exif.tobytes())
    data = np.frombuffer(photo.getvalue(), np.uint8)
    seen = []
    for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION):
        pixels, types, metadata = cv2.imdecodeWithMetadata(data, flags)
        _, written = cv2.imencodeWithMetadata("." + kind.lower(), pixels, types, metadata)
        seen.append((pixels.shape[1::-1], shown(written.tobytes())))
    print(f"seen: {kind}: shown as {shown(photo.getvalue())}; read {seen[0][0]}, once written shown as {seen[0][1]}", end="; ")
    print(f"read with IMREAD_IGNORE_ORIENTATION {seen[1][0]}, shown as {seen[1][1]}")
    holds &= shown(photo.getvalue()) == UPRIGHT and seen == [(UPRIGHT, LYING), (LYING, UPRIGHT)]
sys.exit(not holds)
PYTHON
