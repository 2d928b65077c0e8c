#!/usr/bin/env bash
# A VIN label that is drawn in Python has eighteen characters: both of its label libraries add one to Code 39 unasked.
. "$(dirname "$0")/prepare.bash"
with_packages python-barcode==0.16.1 reportlab==5.1.0 zxing-cpp==3.1.1 numpy==2.4.6
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" jsbarcode@3.12.3 bwip-js@4.11.4 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
cat >draw.js <<'NODE'
const JsBarcode = require("jsbarcode");
const bwip = require("bwip-js");
const text = process.argv[2];
const drawn = {};
JsBarcode(drawn, text, { format: "CODE39" });
const bwipped = bwip.raw({ bcid: "code39", text })[0].sbs; // widths of bars and spaces by turns
console.log(JSON.stringify({
  jsbarcode: drawn.encodings[0].data,
  "bwip-js": [...bwipped].map((width, at) => (at % 2 ? "0" : "1").repeat(width)).join(""),
}));
NODE
"$python" - <<'PYTHON'
import io
import json
import re
import subprocess
import sys
from importlib.metadata import version

import barcode
import numpy as np
import zxingcpp
from reportlab.graphics import renderSVG
from reportlab.graphics.barcode import createBarcodeDrawing

VIN = "WVWZZZ1KZ6W612305"  # 17 characters, none of which is a check digit: it is made for Europe


def printed(bars):
    """What a scanner reads of bars that begin and end at places in a drawing."""
    left = min(begin for begin, _ in bars)
    row = np.full(round(10 * (max(end for _, end in bars) - left)) + 1, 255, np.uint8)
    for begin, end in bars:
        row[round(10 * (begin - left)) : round(10 * (end - left))] = 0
    label = np.pad(np.tile(row, (200, 1)), 100, constant_values=255)
    return [code.text for code in zxingcpp.read_barcodes(label, formats=zxingcpp.BarcodeFormat.Code39Std)]


def of_modules(text):
    return [(match.start(), match.end()) for match in re.finditer("1+", text)]


def of_svg(text):
    rects = re.findall(r'<rect x="([\d.]+)(?:mm)?" y="[^"]*" width="([\d.]+)(?:mm)?" [^>]*fill: ?(?:black|rgb\(0%|#000)', text)
    return [(float(x), float(x) + float(width)) for x, width in rects]


npm = json.loads(subprocess.run(["node", "draw.js", VIN], check=True, capture_output=True).stdout)
file = io.BytesIO()
barcode.generate("code39", VIN, output=file, writer_options={"add_checksum": False})
labels = {
    "python-barcode": of_modules(barcode.get("code39", VIN).build()[0]),
    "python-barcode, writer_options={'add_checksum': False}": of_svg(file.getvalue().decode()),
    "python-barcode, Code39(…, add_checksum=False)": of_modules(barcode.codex.Code39(VIN, add_checksum=False).build()[0]),
    "reportlab": of_svg(renderSVG.drawToString(createBarcodeDrawing("Standard39", value=VIN))),
    "reportlab, checksum=0": of_svg(renderSVG.drawToString(createBarcodeDrawing("Standard39", value=VIN, checksum=0))),
    **{name: of_modules(bars) for name, bars in npm.items()},
}
print("python-barcode", version("python-barcode"), "- reportlab", version("reportlab"), "- jsbarcode 3.12.3 - bwip-js 4.11.4")
print("assumed: a label drawn of a VIN is read as that VIN; Code 39 asks for no check character")
seen = {name: printed(bars) for name, bars in labels.items()}
for name, texts in seen.items():
    print(f"seen: {name}: {texts}")
longer = [name for name, texts in seen.items() if len(texts) == 1 and texts[0][:-1] == VIN]
sys.exit(
    longer != ["python-barcode", "python-barcode, writer_options={'add_checksum': False}", "reportlab"]
    or any(texts != [VIN] for name, texts in seen.items() if name not in longer)
)
PYTHON
