#!/usr/bin/env bash
# An orientation written as a 32-bit number turns a photo in OpenCV or not, depending on the byte order of its Exif.
. "$(dirname "$0")/prepare.bash"
with_packages opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import struct
import sys

import cv2
import numpy as np
from PIL import Image

print("opencv-python-headless", cv2.__version__)
print("assumed: byte order does not matter, and other readers agree")
file = io.BytesIO()
Image.new("RGB", (64, 32), "red").save(file, "JPEG")
seen = {}
for order, mark in (("<", b"II"), (">", b"MM")):
    for name, kind, value in (("SHORT", 3, struct.pack(order + "HH", 6, 0)), ("LONG", 4, struct.pack(order + "I", 6))):
        entry = struct.pack(order + "HHHI", 1, 0x0112, kind, 1) + value + bytes(4)
        exif = b"Exif\0\0" + mark + struct.pack(order + "HI", 42, 8) + entry
        data = file.getvalue()
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
        shape = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape
        pillow = Image.open(io.BytesIO(data)).getexif()[0x0112]
        seen[mark, name] = shape == (64, 32, 3)
        print(f"seen: {mark.decode()} {name}: OpenCV {'turns' if seen[mark, name] else 'does NOT turn'} it; Pillow reads {pillow}")
sys.exit(seen != {(b"II", "SHORT"): True, (b"II", "LONG"): True, (b"MM", "SHORT"): True, (b"MM", "LONG"): False})
PYTHON
