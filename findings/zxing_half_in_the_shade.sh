#!/usr/bin/env bash
# zxing-cpp reads no linear code that lies half in the shade; the logarithm of the brightness less its mean cures it.
. "$(dirname "$0")/prepare.bash"
with_packages zxing-cpp==3.1.1 numpy==2.4.6 opencv-python-headless==5.0.0.93
"$python" - <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import zxingcpp

KINDS = ("Code39", "Code93", "Code128", "QRCode", "DataMatrix", "Aztec")


def drawn(kind: str) -> np.ndarray:
    """A clean code, dark on light, in the middle of a light photo."""
    code = zxingcpp.create_barcode("JHLRD77874C026456", getattr(zxingcpp.BarcodeFormat, kind))
    modules = np.array(zxingcpp.write_barcode_to_image(code, scale=3))
    photo = np.full((500, 1000), 235, np.uint8)
    y, x = (500 - modules.shape[0]) // 2, (1000 - modules.shape[1]) // 2
    photo[y : y + modules.shape[0], x : x + modules.shape[1]] = modules
    return np.maximum(photo, 15)


def shaded(photo: np.ndarray, share: float) -> np.ndarray:
    """The same with its right half at ``share`` of the light; the edge is six pixels wide."""
    light = np.clip((500 - np.arange(1000)) / 6, 0, 1) * (1 - share) + share
    return (photo * light).astype(np.uint8)


def without_shadow(gray: np.ndarray) -> np.ndarray:
    logarithm = np.rint(255 * np.log1p(gray / 8) / np.log1p(255 / 8)).astype(np.int16)
    return np.clip(128 + logarithm - cv2.blur(logarithm, (41, 41)), 0, 255).astype(np.uint8)


print("zxing-cpp", version("zxing-cpp"))
print("assumed: a shadow across a code is what a barcode reader's local thresholds are for")
holds = True
for share in (0.5, 0.3, 0.2):
    for name, kinds in (("linear", KINDS[:3]), ("matrix", KINDS[3:])):
        photos = [shaded(drawn(kind), share) for kind in kinds]
        seen = sum(bool(zxingcpp.read_barcodes(photo)) for photo in photos)
        cured = sum(bool(zxingcpp.read_barcodes(without_shadow(photo))) for photo in photos)
        print(f"seen: right half at {share:.1f} of the light, {name}: read {seen} of 3, without the shadow {cured}")
        holds &= cured == 3 and (share == 0.5 or name == "matrix" or seen == 0)
sys.exit(not holds)
PYTHON
