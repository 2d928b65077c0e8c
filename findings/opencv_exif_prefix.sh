#!/usr/bin/env bash
# An Exif that begins "Exif\0\0", as in a JPEG, turns a PNG or a WebP for Pillow and not for OpenCV.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import struct
import sys
import zlib

import cv2
import numpy as np
import PIL
from PIL import Image, ImageOps

EXIF = struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 0x0112, 3, 1, 6, 0, 0)
PREFIX = b"Exif\0\0"


def png(block):
    file = io.BytesIO()
    Image.new("RGB", (80, 40)).save(file, "PNG")
    data = file.getvalue()
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    return data[:33] + chunk + data[33:]


def webp(block):
    file = io.BytesIO()
    Image.new("RGB", (80, 40)).save(file, "WEBP", exif=PREFIX + EXIF)
    data = file.getvalue()
    at = data.index(b"EXIF")
    body = data[12:at] + b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


print("pillow", PIL.__version__, "- opencv", cv2.__version__)
print("assumed: the six bytes that a JPEG's Exif begins with do no harm before another container's")
turned = {}
for name, make in (("PNG", png), ("WebP", webp)):
    for block in (EXIF, PREFIX + EXIF):
        data = make(block)
        picture = Image.open(io.BytesIO(data))
        begins = picture.info["exif"][:12]
        pillow = ImageOps.exif_transpose(picture).size
        opencv = cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape[1::-1]
        turned[name, block is EXIF] = pillow, opencv
        print(f"seen: {name}, 80 x 40, orientation 6, chunk begins {block[:4]}: Pillow {pillow}, OpenCV {opencv}; info {begins}")
upright = (40, 80)
sys.exit(
    any(
        turned[name, True] != (upright, upright) or turned[name, False] != (upright, (80, 40))
        for name in ("PNG", "WebP")
    )
)
PYTHON
