#!/usr/bin/env bash
# A VIN label that bwip-js draws is black on nothing: on a page it stands on white, to Pillow and OpenCV it is all black.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0 opencv-python-headless==5.0.0.93 zxing-cpp==3.1.1 numpy==2.4.6
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" bwip-js@4.11.4 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
cat >draw.js <<'NODE'
const { writeFileSync } = require("fs");
const { toBuffer } = require("bwip-js");
const [text, ...kinds] = process.argv.slice(2);
const size = { scale: 3, paddingwidth: 10, paddingheight: 10 };
for (const bcid of kinds) toBuffer({ bcid, text, ...size }).then((label) => writeFileSync(`${bcid}.png`, label));
NODE
"$python" - <<'PYTHON'
import subprocess
import sys

import cv2
import zxingcpp
from PIL import Image

VIN = "1M8GDM9AXKP042788"
KINDS = ("code39", "code128", "datamatrix", "azteccode", "qrcode", "pdf417")


def on_white(path):
    label = Image.open(path)
    return Image.alpha_composite(Image.new("RGBA", label.size, "white"), label)


# How a label is opened, and how many of the six kinds are read from it.
WAYS = {
    'Image.open(path).convert("L")': (lambda path: Image.open(path).convert("L"), 0),
    'Image.open(path).convert("RGB")': (lambda path: Image.open(path).convert("RGB"), 0),
    "cv2.imread(path)": (cv2.imread, 0),
    "cv2.imread(path, IMREAD_GRAYSCALE)": (lambda path: cv2.imread(path, cv2.IMREAD_GRAYSCALE), 0),
    "Image.open(path), as zxing-cpp takes it": (Image.open, 0),
    "laid over white first": (on_white, len(KINDS)),
}

print("bwip-js 4.11.4, pillow 13.0.0, opencv-python-headless 5.0.0.93, zxing-cpp 3.1.1")
print("assumed: a label that looks black on white on a page is black on white to a decoder")
subprocess.run(["node", "draw.js", VIN, *KINDS], check=True)
background = {tuple(Image.open(f"{kind}.png").getpixel((0, 0))) for kind in KINDS}
print(f"seen: the background's red, green, blue and opacity are {background}")
holds = background == {(0, 0, 0, 0)}
for way, (opened, wanted) in WAYS.items():
    read = [[code.text for code in zxingcpp.read_barcodes(opened(f"{kind}.png"))] == [VIN] for kind in KINDS]
    print(f"seen: {way}: {sum(read)} of {len(KINDS)} kinds of codes are read")
    holds = holds and sum(read) == wanted
sys.exit(not holds)
PYTHON
