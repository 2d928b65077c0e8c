#!/usr/bin/env bash
# A crop saved without Exif tells nobody where the photo was taken, unless it is saved as HEIC.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0 pillow-heif==1.8.1
"$python" - <<'PYTHON'
import io
import sys

import PIL
import pillow_heif
from PIL import ExifTags, Image

LATITUDE = "0,0.0N"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    f'xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="{LATITUDE}"/></rdf:RDF></x:xmpmeta>'
)
pillow_heif.register_heif_opener()
exif, file = Image.Exif(), io.BytesIO()
exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
Image.new("RGB", (80, 40)).save(file, "JPEG", exif=exif, xmp=XMP.encode())


def told(kind, **options):
    """What a crop of the photo, converted and enlarged, says of the place in its Exif and in its XMP."""
    out = io.BytesIO()
    Image.open(file).crop((20, 10, 60, 30)).convert("L").resize((160, 80)).save(out, kind, **options)
    picture = Image.open(out)
    return bool(picture.getexif().get_ifd(ExifTags.IFD.GPSInfo)), LATITUDE.encode() in out.getvalue()


print("pillow", PIL.__version__, "- pillow-heif", pillow_heif.__version__)
print("assumed: what is saved has the Exif and the XMP that are handed to save(), none where none are")
seen = {kind: told(kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")}
for kind, (in_exif, in_xmp) in seen.items():
    print(f"seen: {kind}: the place is in its Exif: {in_exif}, in its XMP: {in_xmp}")
without = told("HEIF", exif=None, xmp=None)
print(f"seen: HEIF, exif=None, xmp=None: {without[0]}, {without[1]}")
sys.exit(seen.pop("HEIF") != (True, True) or any(any(places) for places in seen.values()) or any(without))
PYTHON
