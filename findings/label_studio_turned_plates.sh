#!/usr/bin/env bash
# A plate that is marked by a turned rectangle in Label Studio becomes three different boxes, by the format of the export.
. "$(dirname "$0")/prepare.bash"
# Without its requirements, 500 MB of them, but for those that its converter imports.
with_packages --no-deps label-studio-sdk==2.1.2 appdirs==1.4.4 certifi==2026.10.19.post1 charset-normalizer==3.5.3 \
  defusedxml==0.7.1 idna==3.20 ijson==3.6.0 lxml==6.1.3 nltk==3.10.4 numpy==2.2.6 pillow==13.0.0 pyjwt==2.13.0 \
  regex==2026.11.19 requests==2.34.2 ujson==6.1.0 urllib3==2.8.0
cd "$home"
"$python" - <<'PYTHON' 2>log || { rc=$?; [ "$rc" = 1 ] || cat log; exit "$rc"; }
import json
import math
import re
import sys
from pathlib import Path

from label_studio_sdk.converter import Converter

# A rectangle of 520 x 110 pixels, turned by 30 degrees about its top left corner, as Label Studio stores it: in percent of the
# photo. `Converter.rotated_rectangle` (converter/converter.py) turns these percentages, as if each photo were a square;
# `convert_annotation_to_yolo` (converter/utils.py) and `convert_to_voc` leave the angle out.
WIDTH, HEIGHT = 1600, 900
LEFT, TOP, LENGTH, DEPTH, ANGLE = 600, 300, 520, 110, 30
CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<RectangleLabels name="label" toName="image"><Label value="plate"/></RectangleLabels></View>'
)
rectangle = {
    "x": 100 * LEFT / WIDTH,
    "y": 100 * TOP / HEIGHT,
    "width": 100 * LENGTH / WIDTH,
    "height": 100 * DEPTH / HEIGHT,
    "rotation": ANGLE,
    "rectanglelabels": ["plate"],
}
result = {
    "id": "plate",
    "type": "rectanglelabels",
    "from_name": "label",
    "to_name": "image",
    "original_width": WIDTH,
    "original_height": HEIGHT,
    "image_rotation": 0,
    "value": rectangle,
}
task = {"id": 1, "data": {"image": "/data/upload/1/car.jpg"}, "annotations": [{"id": 1, "completed_by": 1, "result": [result]}]}
Path("tasks.json").write_text(json.dumps([task]))


def exported(kind):
    Converter(CONFIG, ".", download_resources=False).convert("tasks.json", kind, kind, is_dir=False)
    return Path(kind)


def around(corners):
    columns, rows = zip(*corners, strict=True)
    return tuple(round(edge) for edge in (min(columns), min(rows), max(columns), max(rows)))


def of_coco():
    left, top, width, height = json.loads((exported("COCO") / "result.json").read_text())["annotations"][0]["bbox"]
    return around([(left, top), (left + width, top + height)])


def of_yolo():
    middle, row, width, height = map(float, (exported("YOLO") / "labels/car.txt").read_text().split()[1:])
    return around([((middle + dx * width) * WIDTH, (row + dy * height) * HEIGHT) for dx, dy in ((-0.5, -0.5), (0.5, 0.5))])


def of_voc():
    text = (exported("VOC") / "Annotations/car.xml").read_text()
    return tuple(int(re.search(rf"<{edge}>(\d+)<", text)[1]) for edge in ("xmin", "ymin", "xmax", "ymax"))


def of_obb():
    numbers = list(map(float, (exported("YOLO_OBB") / "labels/car.txt").read_text().split()[1:]))
    return around([(x * WIDTH, y * HEIGHT) for x, y in zip(numbers[::2], numbers[1::2], strict=True)])


def overlap(one, other):
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (one, other)]
    return shared / (sum(areas) - shared)


cos, sin = math.cos(math.radians(ANGLE)), math.sin(math.radians(ANGLE))
plate = around(
    (LEFT + along * cos - down * sin, TOP + along * sin + down * cos) for along in (0, LENGTH) for down in (0, DEPTH)
)
print(f"label-studio-sdk 2.1.2, a photo of {WIDTH} x {HEIGHT}")
print(f"assumed: every export has the box around the turned rectangle, {plate}")
seen = {"COCO": of_coco(), "YOLO": of_yolo(), "VOC": of_voc(), "YOLO_OBB": of_obb()}
for kind, box in seen.items():
    print(f"seen: {kind:8} {box}, overlap with the plate's {overlap(box, plate):.2f}")
wanted = {"COCO": 0.64, "YOLO": 0.26, "VOC": 0.26, "YOLO_OBB": 1}
sys.exit(any(abs(overlap(box, plate) - wanted[kind]) > 0.02 for kind, box in seen.items()))
PYTHON
