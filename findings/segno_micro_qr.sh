#!/usr/bin/env bash
# A QR Code that segno makes of a VIN is a Micro QR Code: OpenCV and jsQR see none, and zxing-cpp reads it unasked.
. "$(dirname "$0")/prepare.bash"
with_packages segno==1.6.6 qrcode==8.2 pillow==13.0.0 zxing-cpp==3.1.1 opencv-python-headless==5.0.0.93 numpy==2.4.6
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" jsqr@1.4.0 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
cat >read.js <<'NODE'
const jsQR = require("jsqr");
const { side, gray } = JSON.parse(require("fs").readFileSync(0));
const rgba = Uint8ClampedArray.from(gray.flatMap((value) => [value, value, value, 255]));
const found = jsQR(rgba, side, side);
console.log(JSON.stringify({ jsQR: found && found.data }));
NODE
"$python" - <<'PYTHON'
import io
import json
import subprocess
import sys
from importlib.metadata import version

import cv2
import numpy as np
import qrcode
import segno
import zxingcpp
from PIL import Image

VIN = "1M8GDM9AXKP042788"


def drawn(code):
    file = io.BytesIO()
    code.save(file, kind="png", scale=8, border=4)
    return np.array(Image.open(file).convert("L"))


def read(picture):
    given = json.dumps({"side": len(picture), "gray": picture.ravel().tolist()})
    node = subprocess.run(["node", "read.js"], input=given, text=True, check=True, capture_output=True)
    (seen,) = zxingcpp.read_barcodes(picture, formats=zxingcpp.BarcodeFormat.QRCode)
    return {
        "OpenCV, QRCodeDetector": cv2.QRCodeDetector().detectAndDecode(picture)[0] or None,
        "OpenCV, QRCodeDetectorAruco": cv2.QRCodeDetectorAruco().detectAndDecode(picture)[0] or None,
        **json.loads(node.stdout),
        f"zxing-cpp, asked for QRCode, of the kind {seen.format.name}": seen.text,
    }


print(", ".join(f"{name} {version(name)}" for name in ("segno", "qrcode", "opencv-python-headless", "zxing-cpp")), "- jsqr 1.4.0")
print("assumed: a QR Code is what a library of QR Codes makes, and what reads QR Codes reads it")
codes = {
    "segno.make(vin)": drawn(segno.make(VIN)),
    "segno.make(vin, micro=False)": drawn(segno.make(VIN, micro=False)),
    "qrcode.make(vin)": np.array(qrcode.make(VIN).convert("L")),
}
seen = {name: read(picture) for name, picture in codes.items()}
for name, texts in seen.items():
    for reader, text in texts.items():
        print(f"seen: {name}, {reader}: {text}")
micro = seen.pop("segno.make(vin)")
*others, last = micro
print("seen: segno names it", segno.make(VIN).designator)
sys.exit(
    any(micro[reader] for reader in others)
    or micro[last] != VIN
    or "Micro" not in last
    or any(text != VIN for texts in seen.values() for text in texts.values())
)
PYTHON
