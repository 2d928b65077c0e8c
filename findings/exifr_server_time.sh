#!/usr/bin/env bash
# When a photo was taken is another instant on each server: exifr takes the camera's clock for the server's, beside the offset.
. "$(dirname "$0")/prepare.bash"
with_packages pillow==13.0.0
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" exifr@7.1.3 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
"$python" - <<'PYTHON'
from PIL import ExifTags, Image

photo = Image.new("RGB", (64, 48), "gray")
exif = photo.getexif()
times = exif.get_ifd(ExifTags.IFD.Exif)
times[ExifTags.Base.DateTimeOriginal] = "2026:07:01 10:00:00"
times[ExifTags.Base.OffsetTimeOriginal] = "+02:00"  # since Exif 2.31; phones write it
photo.save("photo.jpg", exif=exif)
PYTHON
cat >taken.js <<'NODE'
const { parse } = require("exifr");
(async () => {
  const taken = await parse("photo.jpg");
  console.log(taken.DateTimeOriginal.toISOString(), taken.OffsetTimeOriginal);
})();
NODE
echo "exifr 7.1.3"
echo "assumed: a photo of 10:00:00 at +02:00, which holds both, was taken at 2026-07-01T08:00:00.000Z"
holds=0
while read -r zone wanted; do
  seen=$(TZ=$zone node taken.js </dev/null)
  echo "seen: on a computer in $zone: $seen"
  [ "$seen" = "$wanted +02:00" ] || holds=1
done <<'ZONES'
Europe/Berlin 2026-07-01T08:00:00.000Z
UTC 2026-07-01T10:00:00.000Z
America/New_York 2026-07-01T14:00:00.000Z
ZONES
exit "$holds"
