#!/usr/bin/env bash
# OpenCV reads AVIF and turns every other kind of photo upright, but not AVIF: a phone photo comes out lying.
. "$(dirname "$0")/prepare.bash"
with_packages opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import sys

import cv2
import numpy as np
import PIL
from PIL import Image, ImageOps

print("opencv-python-headless", cv2.__version__, "- pillow", PIL.__version__)
print("assumed: imdecode returns the photo as its file says it stands, in every container that it reads")
turned = Image.Exif()
turned[0x0112] = 6
shapes = {}
for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
    file = io.BytesIO()
    Image.new("RGB", (64, 32), "red").save(file, kind, exif=turned.tobytes())
    read = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    upright = ImageOps.exif_transpose(Image.open(file))
    shapes[kind] = (read.shape[1], read.shape[0]) == upright.size
    print(f"seen: {kind}: upright {upright.size}, OpenCV {read.shape[1::-1]}")
boxes = file.getvalue()
print("seen: the AVIF has an irot box:", b"irot" in boxes, "- Exif to fall back on:", b"Exif" in boxes)
sys.exit(shapes != {"JPEG": True, "PNG": True, "WEBP": True, "AVIF": False} or b"Exif" in boxes)
PYTHON
