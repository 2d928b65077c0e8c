#!/usr/bin/env bash
# A Polish registration certificate has its VIN in an Aztec code, and not in the code's text.
. "$(dirname "$0")/prepare.bash"
with_packages zxing-cpp==3.1.1 numpy==2.4.6
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" \
  polish-vehicle-registration-certificate-decoder@0.5.0 >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
echo "zxing-cpp 3.1.1, polish-vehicle-registration-certificate-decoder 0.5.0"
echo "assumed: the text of a registration paper's code holds the VIN, as a PDF417 of AAMVA does"
"$python" - "$home/payload" <<'PYTHON'
import base64
import re
import struct
import sys
from pathlib import Path

import numpy as np
import zxingcpp

VIN = "WVWZZZ1KZ6W612305"  # drawn by chance; the fields are the paper's, without anybody's details
fields = ["XXNSTD1", "DR/AAA 0000000", "", "", "", "", "", "XX 00000", "VOLKSWAGEN", *[""] * 3, "GOLF", VIN, *[""] * 53]
text = ("|".join(fields)).encode("utf-16-le")
text += " ".encode("utf-16-le") * (-len(text) // 2 % 4)
# NRV2E with literals only: a bit 1 before each byte, the bits gathered in bytes of their own
packed = b"".join(b"\xff" + text[at : at + 8] for at in range(0, len(text), 8))
payload = base64.b64encode(struct.pack("<I", len(text)) + packed).decode()
Path(sys.argv[1]).write_text(payload)

code = zxingcpp.create_barcode(payload, zxingcpp.BarcodeFormat.Aztec)
picture = np.pad(np.array(zxingcpp.write_barcode_to_image(code, scale=3)), 30, constant_values=255)
(read,) = zxingcpp.read_barcodes(picture)
assert read.text == payload
VALUE = dict(zip("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", map(int, "012345678912345678123457923456789")))
WEIGHT = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def windows(text: str) -> int:
    """Runs of 17 characters that might be a VIN and whose check digit holds."""
    found = 0
    for at in range(len(text) - 16):
        vin = text[at : at + 17]
        if re.fullmatch("[A-HJ-NPR-Z0-9]{17}", vin):
            rest = sum(VALUE[c] * w for c, w in zip(vin, WEIGHT)) % 11
            found += vin[8] == ("X" if rest == 10 else str(rest))
    return found


rng = np.random.default_rng(1)
others = [base64.b64encode(rng.bytes(560)).decode() for _ in range(200)]
upper, plain = sum(bool(windows(t.upper())) for t in others), sum(bool(windows(t)) for t in others)
print(f"seen: {len(read.text)} characters of base64, the VIN among them: {VIN in read.text}")
print(f"seen: of 200 such codes {upper} hold 17 characters with a valid check digit once in upper case, {plain} as they are")
sys.exit(VIN in read.text or upper < 120 or plain > 2)
PYTHON
cd "$home"
node -e '
const {PolishVehicleRegistrationCertificateDecoder: Decoder} = require("polish-vehicle-registration-certificate-decoder");
const {data} = new Decoder(require("fs").readFileSync("payload", "utf8"));
const vin = data.numerIdentyfikacyjnyPojazdu.value;
console.log("seen: unpacked (base64, NRV2E, UTF-16), field E is", vin);
process.exit(vin === "WVWZZZ1KZ6W612305" ? 0 : 1);'
