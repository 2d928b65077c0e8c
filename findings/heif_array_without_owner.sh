#!/usr/bin/env bash
# An array of a HEIC's pixels, made as the documentation makes it, outlives the picture that owns the memory.
. "$(dirname "$0")/prepare.bash"
with_packages pi-heif==1.4.0 pillow-heif==1.8.1 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import sys

import numpy as np
import pi_heif
import pillow_heif
from PIL import Image

file = io.BytesIO()
pillow_heif.from_pillow(Image.new("RGB", (120, 80), (90, 90, 90))).save(file)
print("pi-heif", pi_heif.__version__)
print("assumed: np.asarray(open_heif(...)) keeps the memory that it shows, as arrays do")


def read():
    return np.asarray(pi_heif.open_heif(io.BytesIO(file.getvalue())))


pixels = read()
others = [np.full(pixels.shape, 7, np.uint8) for _ in range(100)]  # whatever a program does next
lost = pixels.mean()
print(f"seen: gray of 90 has become {lost:.0f} (of a larger picture the process would be ended)")
kept = pi_heif.open_heif(io.BytesIO(file.getvalue()))
pixels = np.asarray(kept)
others += [np.full(pixels.shape, 7, np.uint8) for _ in range(100)]
print(f"seen: while the picture is kept, it is {pixels.mean():.0f}")
sys.exit(bool(abs(pixels.mean() - 90) > 3 or abs(lost - 90) <= 3))
PYTHON
