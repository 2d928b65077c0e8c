#!/usr/bin/env bash
# A JPEG that lacks its last two bytes is a whole picture from a path and, but for rare sizes, no picture from memory.
. "$(dirname "$0")/prepare.bash"
with_packages opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

print("opencv-python-headless", cv2.__version__)
print("assumed: imdecode(bytes) and imread(file of the same bytes) give the same")
whole = nothing = 0
for seed in range(20):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (64 + seed, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    complete = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    data = file.getvalue()[:-2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        path.write_bytes(data)
        from_path = cv2.imread(str(path))
    whole += from_path is not None and bool((from_path == complete).all())
    nothing += cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None
print(f"seen: 20 files without FF D9: {whole} times imread gives the whole picture, {nothing} times imdecode gives None")
sys.exit(whole < 20 or nothing < 15)
PYTHON
