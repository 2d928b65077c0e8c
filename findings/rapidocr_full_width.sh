#!/usr/bin/env bash
# A strong OCR engine reads OCR-B print right and fails every VIN pattern: it mixes full-width letters in.
. "$(dirname "$0")/prepare.bash"
(cd "$home" && apt-get download fonts-ocr-b && dpkg-deb -x ./*.deb .) >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet --disable-pip-version-check \
  rapidocr==3.10.0 onnxruntime==1.31.1 opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
"$home/venv/bin/python" - "$home/usr/share/fonts/opentype/ocr-b/OCRBS.otf" <<'PYTHON'
import logging
import random
import sys
import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFont

logging.disable(logging.CRITICAL)
from rapidocr import RapidOCR

engine = RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": 1})
font = ImageFont.truetype(sys.argv[1], 48)
random.seed(4)
print("rapidocr 3.10.0 (PP-OCRv6 small), eight VINs drawn in OCR-B, the print of many type plates")
print("assumed: letters and digits of a Latin text are ASCII, and [A-Z0-9] finds them")
exact = right = 0
for _ in range(8):
    vin = "WDB" + "".join(random.choices("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", k=8)) + f"{random.randrange(10**6):06}"
    picture = Image.new("RGB", (int(font.getlength(vin)) + 300, 348), (235, 235, 235))
    ImageDraw.Draw(picture).text((150, 150), vin, font=font, fill=(20, 20, 20))
    text = "".join(engine(np.asarray(picture)[..., ::-1].copy()).txts or ()).replace(" ", "")
    exact += text == vin
    right += unicodedata.normalize("NFKC", text) == vin
    print(f"seen: {vin} read as {text}")
print(f"seen: equal as they come {exact} of 8, after NFKC {right} of 8")
sys.exit(not (right >= exact + 2 and right >= 6))
PYTHON
