#!/usr/bin/env bash
# OpenCV's linear resizing gives other pixels on arm64 than on x86, and the same again once a picture has five channels.
. "$(dirname "$0")/prepare.bash"
with_packages opencv-python-headless==5.0.0.93 numpy==2.4.6
with_arm64 opencv-python-headless==5.0.0.93 numpy==2.4.6
cat >"$home/run.py" <<'PYTHON'
import re
import sys

import cv2
import numpy as np

cv2.setNumThreads(1)
photo = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8), (0, 0), 2)
side = (308, 174)
five = np.concatenate([photo, photo[..., :2]], axis=2)
np.savez(
    sys.argv[1],
    **{
        "linear, 1 channel": cv2.resize(photo[..., 0], side, interpolation=cv2.INTER_LINEAR),
        "linear, 3 channels": cv2.resize(photo, side, interpolation=cv2.INTER_LINEAR),
        "linear, 5 channels": cv2.resize(five, side, interpolation=cv2.INTER_LINEAR)[..., :3],
        "linear exact": cv2.resize(photo, side, interpolation=cv2.INTER_LINEAR_EXACT),
        "area, half": cv2.resize(photo, (320, 180), interpolation=cv2.INTER_AREA),
        "perspective, linear": cv2.warpPerspective(
            photo, np.array([[0.5, 0.02, 1], [0.01, 0.5, 2], [1e-5, 2e-5, 1]]), side, flags=cv2.INTER_LINEAR
        ),
    },
)
print(re.search(r"Custom HAL:.*", cv2.getBuildInformation())[0].strip())
PYTHON
cd "$home"
echo "opencv-python-headless 5.0.0.93; $(arm/qemu-aarch64 --version | head -1)"
echo "x86-64: $(venv/bin/python run.py x86)"
echo "arm64: $("${arm[@]}" run.py arm 2>log || { cat log; exit 2; })"
echo "assumed: resizing of bytes is fixed-point arithmetic; INTER_LINEAR_EXACT is for those who change versions"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np

x86, arm = np.load("x86.npz"), np.load("arm.npz")
differ = set()
for name in x86:
    off = np.abs(x86[name].astype(int) - arm[name])
    print(f"seen: {name:20} x86-64 against arm64: {(off > 0).mean():6.1%} of values differ, by {off.max()} at most")
    if off.any():
        differ.add(name)
sys.exit(differ != {"linear, 1 channel", "linear, 3 channels"})
PYTHON
