#!/usr/bin/env bash
# Which way up imageio shows a phone's video hangs on the plugin that is installed, and neither plugin tells the angle.
. "$(dirname "$0")/prepare.bash"
cd "$home"
cat >run.py <<'PYTHON'
import json
import logging
import struct
import sys
from importlib.metadata import version
from pathlib import Path

import av
import cv2
import imageio.v3 as iio
import numpy as np

logging.disable()
LYING, UPRIGHT = (160, 96), (96, 160)
WHEREVER = Path("portrait.mp4")


def film():
    """A video as a phone takes it upright: lying pictures, and a matrix that turns them clockwise by 90 degrees."""
    picture = np.zeros((96, 160, 3), np.uint8)
    with av.open(str(WHEREVER), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for frame in (*[av.VideoFrame.from_ndarray(picture)] * 5, None):
            for packet in stream.encode(frame):
                file.mux(packet)
    data = bytearray(WHEREVER.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2: the matrix of a track header of version 0
    one = 1 << 16
    assert struct.unpack_from(">9i", data, at) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at, 0, one, 0, -one, 0, 0, 96 * one, 0, 1 << 30)
    WHEREVER.write_bytes(data)


def angle(told):
    return {name: value for name, value in told.items() if "rot" in name.lower() or "orient" in name.lower()}


def size(frame):
    height, width = frame.shape[:2]
    return width, height


film()
seen = {"imageio": [size(iio.imread(WHEREVER, index=0)), angle(iio.immeta(WHEREVER))]}
if "FFMPEG" not in sys.argv:
    with av.open(str(WHEREVER)) as file:
        frame = next(file.decode(video=0))
        seen["PyAV"] = [(frame.width, frame.height), {"rotation": frame.rotation}]
    video = cv2.VideoCapture(str(WHEREVER))
    told = {"CAP_PROP_ORIENTATION_META": video.get(cv2.CAP_PROP_ORIENTATION_META)}
    seen["OpenCV"] = [size(video.read()[1]), told]
    packages = ("imageio", "av", "opencv-python-headless")
    print(", ".join(f"{name} {version(name)}" for name in packages))
    print("assumed: frames of a video come as a player shows it, or lying with the angle beside them")
    names = "imageio with av", "PyAV", "OpenCV"
    wanted = [[LYING, {}], [LYING, {"rotation": -90}], [UPRIGHT, {"CAP_PROP_ORIENTATION_META": 90.0}]]
else:
    names, wanted = ("imageio with av and imageio-ffmpeg " + version("imageio-ffmpeg"),), [[UPRIGHT, {"rotate": 0}]]
for name, (shape, told) in zip(names, seen.values()):
    print(f"seen: {name}: {'lying' if shape == LYING else 'upright'}, told: {told or 'nothing'}")
sys.exit(list(seen.values()) != wanted)
PYTHON
with_packages imageio==2.38.1 av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$python" run.py
with_packages imageio-ffmpeg==0.8.1
"$python" run.py FFMPEG
