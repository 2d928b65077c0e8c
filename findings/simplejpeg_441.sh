#!/usr/bin/env bash
# A JPEG whose color has a quarter of the height is decoded by simplejpeg, and its header is a KeyError.
. "$(dirname "$0")/prepare.bash"
with_packages simplejpeg==1.9.0 pillow==13.0.0 numpy==2.4.6
"$python" - <<'PYTHON'
import io
import sys

import numpy as np
import PIL
import simplejpeg
from PIL import Image

file = io.BytesIO()
Image.fromarray(np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8)).save(file, "JPEG", subsampling="4:2:0")
data = file.getvalue()
at = data.index(b"\xff\xc0") + 11
assert data[at] == 0x22
# Six blocks a unit as well: `cjpeg -sample 1x4` writes such a header.
odd = data[:at] + b"\x14" + data[at + 1 :]

print("simplejpeg", simplejpeg.__version__, "- pillow", PIL.__version__)
print("assumed: what decode_jpeg decodes, decode_jpeg_header describes, or it raises ValueError as documented")
try:
    simplejpeg.decode_jpeg_header(odd)
    raised = None
except Exception as error:
    raised = error
print("seen: decode_jpeg gives", simplejpeg.decode_jpeg(odd).shape, "- decode_jpeg_header raises", repr(raised))
print("seen: Pillow gives", Image.open(io.BytesIO(odd)).convert("RGB").size)
sys.exit(not isinstance(raised, KeyError))
PYTHON
