#!/usr/bin/env bash
# A close-up in poor light: zxing-cpp reads a grainy matrix code only when it is shrunk, and shrinks only large pictures.
. "$(dirname "$0")/prepare.bash"
with_packages zxing-cpp==3.1.1 numpy==2.4.6 opencv-python-headless==5.0.0.93
"$python" - <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import zxingcpp

rng = np.random.default_rng(1)


def close_up(name: str, module: int) -> np.ndarray:
    code = zxingcpp.create_barcode("1M8GDM9AXKP042788", getattr(zxingcpp.BarcodeFormat, name))
    clean = np.pad(np.array(zxingcpp.write_barcode_to_image(code, scale=module)), 6 * module, constant_values=255)
    return np.clip(clean * 0.6 + 50 + rng.normal(0, 35, clean.shape), 0, 255).astype(np.uint8)


print("zxing-cpp", version("zxing-cpp"))
print("assumed: try_downscale only saves time, and a code of 12 px a module is large enough for anything")
holds = True
for name in ("DataMatrix", "QRCode"):
    for module, wanted in ((12, (0, 0, 5)), (20, (0, 5, 5))):
        read = [0, 0, 0]
        for _ in range(6):
            picture = close_up(name, module)
            third = cv2.resize(picture, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
            read[0] += bool(zxingcpp.read_barcodes(picture, try_downscale=False))
            read[1] += bool(zxingcpp.read_barcodes(picture))
            read[2] += bool(zxingcpp.read_barcodes(third, try_downscale=False))
        print(
            f"seen: {name}, {module} px a module, 6 pictures: {read[0]} without try_downscale, "
            f"{read[1]} with it, {read[2]} at a third of the size"
        )
        holds &= all(n >= w if w else n <= 1 for n, w in zip(read, wanted))
sys.exit(not holds)
PYTHON
