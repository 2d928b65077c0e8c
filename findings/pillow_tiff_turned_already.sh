#!/usr/bin/env bash
# Pillow has three conventions for which way up: tag and lying pixels, turned pixels, and - TIFF - a tag on turned pixels.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0 pillow-heif==1.8.1 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import sys

import numpy as np
import PIL
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()
print("pillow", PIL.__version__, "- pillow-heif", pillow_heif.__version__)
print("assumed: whoever reads the orientation of an opened file and turns its pixels by it has them upright")
tag = Image.Exif()
tag[0x0112] = 6
seen = {}
for kind in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF"):
    file = io.BytesIO()
    how = {"tiffinfo": {0x0112: 6}} if kind == "TIFF" else {"exif": tag.tobytes()}
    Image.new("RGB", (64, 32), "red").save(file, kind, **how)
    image = Image.open(file)
    orientation = image.getexif().get(0x0112)
    pixels = np.asarray(image)
    turned = np.rot90(pixels, -1) if orientation == 6 else pixels
    seen[kind] = orientation, pixels.shape[1::-1], turned.shape[1::-1] == (32, 64)
    print(f"seen: {kind}: orientation {orientation}, pixels {seen[kind][1]}, then turned: upright {seen[kind][2]}")
lying, upright = (6, (64, 32), True), (1, (32, 64), True)
sys.exit(
    seen != {**dict.fromkeys(("JPEG", "PNG", "WEBP", "AVIF"), lying), "HEIF": upright, "TIFF": (6, (32, 64), False)}
)
PYTHON
