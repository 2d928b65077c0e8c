#!/usr/bin/env bash
# A photo without Exif is turned by Pillow as its XMP says, and by nothing else that decodes it.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import sys

import cv2
import numpy as np
import PIL
from PIL import Image, ImageOps, PngImagePlugin

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
TEXT = PngImagePlugin.PngInfo()
TEXT.add_itxt("XML:com.adobe.xmp", XMP)
WAYS = {"JPEG": {"xmp": XMP.encode()}, "PNG": {"pnginfo": TEXT}, "WEBP": {"xmp": XMP.encode()}}

print("pillow", PIL.__version__, "- opencv", cv2.__version__)
print("assumed: exif_transpose(), as it is called, turns by the Exif; the file has none, so it lies as it lies")
turned = {}
for name, ways in WAYS.items():
    file = io.BytesIO()
    Image.new("RGB", (80, 40)).save(file, name, **ways)
    picture = Image.open(file)
    turned[name] = ImageOps.exif_transpose(picture).size, cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), 1).shape[1::-1]
    exif = "exif" in picture.info or "eXIf" in picture.info
    print(f"seen: {name}, 80 x 40, Exif in it: {exif}: Pillow {turned[name][0]}, OpenCV {turned[name][1]}")
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 1
    Image.new("RGB", (80, 40)).save(file, name, exif=exif, **ways)
    turned[f"{name} whose Exif says 1"] = ImageOps.exif_transpose(Image.open(file)).size
print("seen: with an Exif that says 1 beside it:", [size for name, size in turned.items() if " " in name])
sys.exit(
    any(turned[name] != ((40, 80), (80, 40)) or turned[f"{name} whose Exif says 1"] != (80, 40) for name in WAYS)
)
PYTHON
