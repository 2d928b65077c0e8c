#!/usr/bin/env bash
# A paginator's `search` finds one key, None, under a prefix that holds nothing.
. "$(dirname "$0")/prepare.bash"
with_packages botocore==1.44.8
cd "$home"
"$python" - <<'PYTHON'
import sys

import botocore
from botocore.session import Session
from botocore.stub import Stubber

s3 = Session().create_client("s3", "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
PAGES = {  # what S3 answers, by what lies under the prefix
    "nothing": [{"KeyCount": 0, "IsTruncated": False}],
    "one object": [{"KeyCount": 1, "IsTruncated": False, "Contents": [{"Key": "photos/a.jpg", "Size": 7}]}],
    "folders, then one object": [
        {"KeyCount": 1, "IsTruncated": True, "NextContinuationToken": "2", "CommonPrefixes": [{"Prefix": "photos/b/"}]},
        {"KeyCount": 1, "IsTruncated": False, "Contents": [{"Key": "photos/a.jpg", "Size": 7}]},
    ],
}


def found(pages, expression):
    with Stubber(s3) as stub:
        for page in pages:
            stub.add_response("list_objects_v2", page)
        listed = s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="photos/", Delimiter="/")
        return list(listed.search(expression))


print(f"botocore {botocore.__version__}")
print("assumed: as many keys as objects, and none where there is none, as `Contents[].Key` makes a list")
seen = {name: found(pages, "Contents[].Key") for name, pages in PAGES.items()}
for name, keys in seen.items():
    print(f"seen: {name}: {keys}")
counted = found(PAGES["nothing"], "length(Contents[] || `[]`)")
flat = found(PAGES["nothing"], "Contents[].Key || `[]`")
print(f"seen: nothing, with an empty list in its place: {flat}, and {counted} counted")
sys.exit(
    list(seen.values()) != [[None], ["photos/a.jpg"], [None, "photos/a.jpg"]] or flat != [] or counted != [0]
)
PYTHON
