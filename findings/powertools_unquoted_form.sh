#!/usr/bin/env bash
# A photo that .NET's HttpClient sends as a form is "missing" to Powertools' UploadFile: its name has no quotes.
. "$(dirname "$0")/prepare.bash"
with_packages aws-lambda-powertools==3.37.0 pydantic==2.13.5 werkzeug==3.1.5
"$python" - <<'PYTHON'
import base64
import io
import json
import sys
from importlib.metadata import version
from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.openapi.params import File, UploadFile
from werkzeug.formparser import parse_form_data

PHOTO = b"\xff\xd8\xff\xe0" + bytes(range(256)) + b"\xff\xd9"
# Tokens need no quotes, and parameters no order (RFC 2183, 2; RFC 7578, 4.2).
WAYS = {
    "as browsers do": 'form-data; name="upload"; filename="car.jpg"',
    "as .NET does": "form-data; name=upload; filename=car.jpg; filename*=utf-8''car.jpg",
    "file name first": 'form-data; filename="car.jpg"; name="upload"',
}
app = APIGatewayHttpResolver(enable_validation=True)


@app.post("/plate")
def plate(upload: Annotated[UploadFile, File()]) -> dict[str, int]:
    return {"bytes": len(upload.content)}


print("aws-lambda-powertools", version("aws-lambda-powertools"))
print("assumed: a form is read by its grammar, as werkzeug", version("werkzeug"), "does")
seen = []
for way, disposition in WAYS.items():
    head = f"--XyZ\r\nContent-Disposition: {disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
    body, kind = head.encode() + PHOTO + b"\r\n--XyZ--\r\n", 'multipart/form-data; boundary="XyZ"'
    event = {
        "version": "2.0",
        "rawPath": "/plate",
        "rawQueryString": "",
        "headers": {"content-type": kind},
        "requestContext": {"http": {"method": "POST", "path": "/plate"}, "stage": "$default"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    answer = app.resolve(event, None)
    wsgi = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    found = parse_form_data(wsgi)[2]["upload"].read() == PHOTO
    seen.append((found, int(answer["statusCode"])))
    print(f"seen: {way:16} werkzeug has the photo: {found}, Powertools: {seen[-1][1]} {json.loads(answer['body'])}")
sys.exit(seen != [(True, 200), (True, 422), (True, 422)])
PYTHON
