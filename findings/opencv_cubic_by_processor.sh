#!/usr/bin/env bash
# Of the ways in which OpenCV enlarges an 8-bit picture, cubic alone gives other pixels on other x86 processors.
. "$(dirname "$0")/prepare.bash"
with_emulator
with_packages opencv-python-headless==5.0.0.93 numpy==2.4.6
cat >"$home/run.py" <<'PYTHON'
import sys

import cv2
import numpy as np

cv2.setNumThreads(1)
picture = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
sides = ((391, 281), (640, 480))
np.savez(
    sys.argv[1],
    **{
        f"{name} {side[0]}": cv2.resize(picture, side, interpolation=getattr(cv2, f"INTER_{name}"))
        for name in ("LINEAR", "AREA", "CUBIC", "LANCZOS4")
        for side in sides
    },
    **{
        "warpAffine, CUBIC 391": cv2.warpAffine(
            picture, np.array([[1.3, 0, 0.15], [0, 1.4, 0.2]]), (391, 281), flags=cv2.INTER_CUBIC
        )
    },
)
PYTHON
cd "$home"
emulate SandyBridge Haswell
echo "opencv-python-headless 5.0.0.93, $("$emulator" --version | head -1)"
echo "assumed: 8-bit results are integers of fixed-point arithmetic, equal to the bit on every processor"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np

old, new = (np.load(f"{name}.npz") for name in ("SandyBridge", "Haswell"))
differ = set()
for name in old:
    off = np.abs(old[name].astype(int) - new[name])
    print(f"seen: {name:22} AVX against AVX2: {int((off > 0).sum())} of {off.size} values differ, by {off.max()} at most")
    if off.any():
        differ.add(name.split()[0])
sys.exit(differ != {"CUBIC", "warpAffine,"})
PYTHON
