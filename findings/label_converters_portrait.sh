#!/usr/bin/env bash
# Boxes of plates in phone photos taken in portrait are moved by converters of labels, which take the photo as it lies.
. "$(dirname "$0")/prepare.bash"
with_packages labelformat==0.1.17 globox==2.9.0 supervision==0.31.2 opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
cd "$home"
"$python" - <<'PYTHON' 2>log || { rc=$?; [ "$rc" = 1 ] || cat log; exit "$rc"; }
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import supervision
from globox import AnnotationSet
from PIL import ExifTags, Image

# YOLO's labels are shares of the width and height of the photo as tools for labeling show it, upright. labelformat's
# `get_image_dimensions` (utils.py) and globox's `get_image_size` (image_utils.py) read both from the header, as it lies there.
PLATE, WIDTH, HEIGHT = (60, 300, 180, 330), 300, 400  # left, top, right, bottom, of a white plate in a dark photo
left, top, right, bottom = PLATE
photo = np.zeros((HEIGHT, WIDTH), np.uint8)
photo[top:bottom, left:right] = 255
turned = Image.Exif()
turned[ExifTags.Base.Orientation] = 6
images, labels = Path("images/train"), Path("labels/train")
images.mkdir(parents=True)
labels.mkdir(parents=True)
Image.fromarray(photo).transpose(Image.Transpose.ROTATE_90).save(images / "car.jpg", exif=turned)
middle, row = (left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT
(labels / "car.txt").write_text(f"0 {middle} {row} {(right - left) / WIDTH} {(bottom - top) / HEIGHT}\n")
Path("data.yaml").write_text("path: .\ntrain: images/train\nnc: 1\nnames: {0: plate}\n")


def of_coco(file):
    coco = json.loads(Path(file).read_text())
    x, y, width, height = coco["annotations"][0]["bbox"]
    return (coco["images"][0]["width"], coco["images"][0]["height"]), (x, y, x + width, y + height)


def by_labelformat():
    source = ["--input-format", "yolov8", "--input-file", "data.yaml", "--input-split", "train"]
    target = ["--output-format", "coco", "--output-file", "labelformat.json"]
    program = Path(sys.executable).with_name("labelformat")
    subprocess.run([program, "convert", "--task", "object-detection", *source, *target], check=True, stdout=sys.stderr)
    return of_coco("labelformat.json")


def by_globox():
    read = AnnotationSet.from_yolo_v5(labels, image_folder=images)
    read.save_coco("globox.json", auto_ids=True)
    return of_coco("globox.json")


def by_supervision():
    supervision.DetectionDataset.from_yolo(str(images), str(labels), "data.yaml").as_coco(annotations_path="supervision.json")
    return of_coco("supervision.json")


def bright(box):
    """How much of the box is plate, in the photo as OpenCV and people see it."""
    left, top, right, bottom = (round(edge) for edge in box)
    inside = cv2.imread(str(images / "car.jpg"), cv2.IMREAD_GRAYSCALE)[top:bottom, left:right]
    return float((inside > 127).mean()) if inside.size else 0


print(", ".join(f"{name} {version(name)}" for name in ("labelformat", "globox", "supervision")))
print(f"assumed: YOLO's label of a photo of {WIDTH} x {HEIGHT} is, in COCO's format, the box {PLATE}")
seen = {"labelformat": by_labelformat(), "globox": by_globox(), "supervision": by_supervision()}
for name, (size, box) in seen.items():
    print(f"seen: {name}: the photo is {size}, the box {box}; {bright(box):.0%} of it is plate")
lying = ((HEIGHT, WIDTH), (80, 225, 240, 247.5))
sys.exit(
    [name for name, answer in seen.items() if answer == lying] != ["labelformat", "globox"]
    or seen["supervision"] != ((WIDTH, HEIGHT), PLATE)
)
PYTHON
