#!/usr/bin/env bash
# A box that is a named tuple leaves a handler as an object on Lambda, and as an array wherever else it is tried.
. "$(dirname "$0")/prepare.bash"
with_packages awslambdaric==4.2.2 aws-lambda-powertools==3.37.0
"$python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from typing import NamedTuple

from aws_lambda_powertools.shared.json_encoder import Encoder
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller


class Box(NamedTuple):
    xmin: int
    ymin: int
    xmax: int
    ymax: int


ANSWER = {"plate": "7KMR204", "box": Box(541, 438, 699, 518)}
ARRAY, OBJECT = list(ANSWER["box"]), ANSWER["box"]._asdict()

print("awslambdaric", version("awslambdaric"), "(what calls a handler on Lambda and writes down what it returns)")
print("assumed: a named tuple is a tuple, an array as the json module writes it; there is one way to write a dictionary")
ways = {
    "json, as a test or a local runtime has it": json.dumps(ANSWER),
    f"aws-lambda-powertools {version('aws-lambda-powertools')}, for a response's body": json.dumps(ANSWER, cls=Encoder),
    "Lambda, for what the handler returns": LambdaMarshaller().marshal_response(ANSWER)[0],
}
boxes = {way: json.loads(text)["box"] for way, text in ways.items()}
for way, box in boxes.items():
    print(f"seen: {way}: {box}")
sys.exit(list(boxes.values()) != [ARRAY, ARRAY, OBJECT])
PYTHON
