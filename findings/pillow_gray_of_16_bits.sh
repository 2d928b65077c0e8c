#!/usr/bin/env bash
# A gray picture of 16 bits, as infrared and scientific cameras store them, turns white on the way through Pillow.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import sys

import cv2
import numpy as np
import PIL
from PIL import Image

print("pillow", PIL.__version__, "- opencv", cv2.__version__)
print('assumed: convert("RGB") makes 78 of 20,000 of 65,535, in gray as in color, as reading it with OpenCV does')
seen = {}
for kind in ("png", "tif"):
    for what, shape in (("gray", (8, 8)), ("color", (8, 8, 3))):
        if (kind, what) == ("tif", "color"):  # which Pillow does not open
            continue
        file = cv2.imencode(f".{kind}", np.full(shape, 20_000, np.uint16))[1]
        picture = Image.open(io.BytesIO(file.tobytes()))
        again = io.BytesIO()
        picture.save(again, "WEBP", lossless=True)
        seen[kind, what] = (
            np.asarray(picture.convert("RGB")).max(),
            np.asarray(picture.convert("L")).max(),
            np.asarray(picture.resize((4, 4)).convert("RGB")).max(),
            np.asarray(Image.open(again)).max(),
            cv2.imdecode(file, cv2.IMREAD_COLOR).max(),
        )
        rgb, gray, small, webp, opencv = map(int, seen[kind, what])
        print(
            f"seen: {kind}, {what}, mode {picture.mode}: RGB {rgb}, L {gray}, resized {small}, saved as WebP {webp}; OpenCV {opencv}"
        )
sys.exit(
    seen[("png", "gray")] != (255, 255, 255, 255, 78)
    or seen[("tif", "gray")] != (255, 255, 255, 255, 78)
    or seen[("png", "color")] != (78, 78, 78, 78, 78)
)
PYTHON
