#!/usr/bin/env bash
# OpenCV 5 draws three of the Hershey fonts alike, knows no thickness beyond bold, and smooths edges unasked.
. "$(dirname "$0")/prepare.bash"
cat >"$home/run.py" <<'PYTHON'
import json
import sys

import cv2
import numpy as np

FONTS = ("SIMPLEX", "PLAIN", "DUPLEX", "COMPLEX", "TRIPLEX", "COMPLEX_SMALL", "SCRIPT_SIMPLEX", "SCRIPT_COMPLEX")


def drawn(font, thickness):
    picture = np.zeros((90, 420), np.uint8)
    cv2.putText(picture, "AB 0123 Q", (10, 60), getattr(cv2, f"FONT_HERSHEY_{font}"), 1.5, 255, thickness)
    return picture


values = np.unique(drawn("SIMPLEX", 2))
seen = {
    "fonts drawn differently, of 8": len({drawn(font, 2).tobytes() for font in FONTS}),
    "DUPLEX, COMPLEX and TRIPLEX": len({drawn(font, 2).tobytes() for font in ("DUPLEX", "COMPLEX", "TRIPLEX")}),
    "thicknesses drawn differently, of 1 to 5": len({drawn("SIMPLEX", thick).tobytes() for thick in range(1, 6)}),
    "a text of 255 on 0, as drawn by default, is of 0 and 255 alone": len(values) == 2,
}
json.dump(seen, open(sys.argv[1], "w"))
PYTHON
cd "$home"
with_both_opencvs
"$python" - <<'PYTHON'
import json
import sys

four, five = (json.load(open(version)) for version in ("4.14.0.94", "5.0.0.93"))
print("opencv-python-headless 4.14.0.94 and 5.0.0.93, cv2.putText")
print("assumed: eight names are eight fonts, a stroke is as thick as is asked for, and LINE_8 means no smooth edges")
for what in four:
    print(f"seen: {what}: 4: {four[what]}, 5: {five[what]}")
sys.exit(list(four.values()) != [8, 3, 4, True] or list(five.values()) != [6, 1, 2, False])
PYTHON
