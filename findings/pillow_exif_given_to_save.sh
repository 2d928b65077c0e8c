#!/usr/bin/env bash
# save(…, exif=photo.getexif()): AVIF takes the orientation out of the photo that is saved, HEIC does not take it at all.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0 pillow-heif==1.8.1
"$python" - <<'PYTHON'
import io
import sys

import PIL
import pillow_heif
from PIL import Image, ImageOps

ORIENTATION, LYING, UPRIGHT = 0x0112, (80, 40), (40, 80)
pillow_heif.register_heif_opener()


def photo():
    exif, file = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = 6
    Image.new("RGB", LYING).save(file, "JPEG", exif=exif)
    return Image.open(file)


def saved(kind, source, exif):
    file = io.BytesIO()
    source.save(file, kind, exif=exif)
    return ImageOps.exif_transpose(Image.open(file)).size


print("pillow", PIL.__version__, "- pillow-heif", pillow_heif.__version__)
print("assumed: save() reads the Exif that it is given, as an object or as its bytes; what is saved lies as the photo does")
seen = {}
for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"):
    source, other = photo(), photo()
    by_object = saved(kind, source, source.getexif())
    by_bytes = saved(kind, other, other.getexif().tobytes())
    seen[kind] = by_object, by_bytes, ImageOps.exif_transpose(source).size
    print(f"seen: {kind}: saved with the object {by_object}, with its bytes {by_bytes}; the photo itself then {seen[kind][2]}")
odd = {"AVIF": (UPRIGHT, UPRIGHT, LYING), "HEIF": (LYING, UPRIGHT, UPRIGHT)}
sys.exit(any(sizes != odd.get(kind, (UPRIGHT,) * 3) for kind, sizes in seen.items()))
PYTHON
