#!/usr/bin/env bash
# JSON Lines are read by what the first rows show: polars leaves out what comes later, DuckDB rounds it, without a word.
. "$(dirname "$0")/prepare.bash"
with_packages polars==2.1.0 duckdb==2.0.1 pandas==3.1.1 pyarrow==26.0.1
cd "$home"
"$python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version

import duckdb
import pandas
import polars
from pyarrow import json as arrow

LAST = {  # the last row, as each reader has it
    "pandas": lambda: pandas.read_json("rows.jsonl", lines=True).iloc[-1].to_dict(),
    "pyarrow": lambda: arrow.read_json("rows.jsonl").to_pylist()[-1],
    "polars": lambda: polars.read_ndjson("rows.jsonl").row(-1, named=True),
    "duckdb": lambda: dict(zip((rows := duckdb.sql("FROM 'rows.jsonl'")).columns, rows.fetchall()[-1])),
}


def cell(first, count, last, name):
    with open("rows.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in (*[first] * count, last))
    for reader, row in LAST.items():
        try:
            yield reader, row().get(name, "left out")
        except Exception as error:
            yield reader, f"refused, {type(error).__name__}"


print(", ".join(f"{name} {version(name)}" for name in LAST))
print("assumed: every value of a valid file is in the table, or the reader refuses the file")
holds = True
for count in (99, 100):
    for reader, code in cell({"status": 200, "plate": "ab123"}, count, {"status": 404, "code": "no_plate"}, "code"):
        print(f"seen: {count} plates, then a row with the code no_plate; {reader:7}: {code}")
        holds &= code == ("left out" if reader == "polars" and count == 100 else "no_plate")
for count in (20_479, 20_480):
    for reader, score in cell({"score": 1}, count, {"score": 0.49}, "score"):
        print(f"seen: {count} scores of 1, then one of 0.49; {reader:7}: {score}")
        if reader == "polars":
            holds &= str(score).startswith("refused")
        else:
            holds &= score == (0 if reader == "duckdb" and count == 20_480 else 0.49)
sys.exit(not holds)
PYTHON
