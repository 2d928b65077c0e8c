#!/usr/bin/env bash
# A one-dimensional array is a column to OpenCV 4 and a row to OpenCV 5: a profile is smoothed by the one, left by the other.
. "$(dirname "$0")/prepare.bash"
cat >"$home/run.py" <<'PYTHON'
import json
import sys

import cv2
import numpy as np

ink = np.float32([0, 0, 0, 9, 0, 0, 0])  # a profile, such as the ink in each column of a plate
once = np.ones((3, 1), np.uint8)
lines = np.zeros((100, 120), np.uint8)
cv2.rectangle(lines, (20, 20), (90, 70), 255)
seen = {
    "cv2.blur(ink, (1, 3))": cv2.blur(ink, (1, 3)).ravel().tolist(),
    "cv2.blur(ink, (3, 1))": cv2.blur(ink, (3, 1)).ravel().tolist(),
    "cv2.Sobel(ink, CV_32F, 0, 1)": cv2.Sobel(ink, cv2.CV_32F, 0, 1).ravel().tolist(),
    "cv2.dilate(ink, np.ones((3, 1)))": cv2.dilate(ink, once).ravel().tolist(),
    "cv2.flip([1, 2, 3], 0)": cv2.flip(np.float32([1, 2, 3]), 0).ravel().tolist(),
    "cv2.vconcat([ink, ink]).shape": list(cv2.vconcat([ink, ink]).shape),
    "cv2.HoughLinesP(...).shape": list(cv2.HoughLinesP(lines, 1, np.pi / 180, 20, minLineLength=10).shape[1:]),
    "cv2.HoughLines(...).shape": list(cv2.HoughLines(lines, 1, np.pi / 180, 20).shape[1:]),
}
json.dump(seen, open(sys.argv[1], "w"))
PYTHON
cd "$home"
with_both_opencvs
"$python" - <<'PYTHON'
import json
import sys

four, five = (json.load(open(version)) for version in ("4.14.0.94", "5.0.0.93"))
print("opencv-python-headless 4.14.0.94 and 5.0.0.93")
print("assumed: what both take without a word, both take for the same")
for call in four:
    print(f"seen: {call:33} 4: {four[call]}, 5: {five[call]}")
down, across = [0, 0, 3, 3, 3, 0, 0], [0, 0, 0, 9, 0, 0, 0]
blurs = [version[f"cv2.blur(ink, {size})"] for version in (four, five) for size in ("(1, 3)", "(3, 1)")]
same = {call for call in four if four[call] == five[call]}
sys.exit(blurs != [down, across, across, down] or same != {"cv2.HoughLines(...).shape"})
PYTHON
