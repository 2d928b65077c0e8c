#!/usr/bin/env bash
# A Code 39 label that begins with a percent sign loses the first letter of its VIN in zxing-cpp.
. "$(dirname "$0")/prepare.bash"
with_packages zxing-cpp==3.1.1 numpy==2.4.6
"$python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import zxingcpp

Format = zxingcpp.BarcodeFormat
PRINTED = ("%WBA3A5C50CF123456", "P+JHLRD77874C026456", "JHLRD77874C026456/A12")

print("zxing-cpp", version("zxing-cpp"))
print("assumed: Code 39 is 43 characters, and formats=Code39 gives those that are printed")
changed = []
for text in PRINTED:
    code = zxingcpp.create_barcode(text, Format.Code39Std)
    picture = np.pad(np.array(zxingcpp.write_barcode_to_image(code, scale=3)), 30, constant_values=255)
    seen = [zxingcpp.read_barcodes(picture, formats=f)[0].text for f in (Format.Code39, Format.Code39Std)]
    print(f"seen: {text} printed, Code39 gives {seen[0]}, Code39Std gives {seen[1]}")
    changed.append(seen[0] == text or seen[1] != text)
sys.exit(any(changed))
PYTHON
