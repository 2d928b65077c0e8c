#!/usr/bin/env bash
# A CSV of plates from Pardubice, or of one Turkish car, is read as a column of infinities; by pandas, JSON's strings too.
. "$(dirname "$0")/prepare.bash"
with_packages pandas==3.1.1 polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1
cd "$home"
"$python" - <<'PYTHON'
import json
import math
import sys
from importlib.metadata import version

import duckdb
import pandas
import polars
from pyarrow import csv

# The Czech Republic: digit, region, digit, four digits; E is the Pardubice Region. Turkey: province, letters, digits.
FILES = {"Czech": ["1E23456", "2E10042", "5E47118"], "Turkish": ["34E1234"]}
READERS = {
    "pandas": lambda path: pandas.read_csv(path)["plate"].tolist(),
    "polars": lambda path: polars.read_csv(path)["plate"].to_list(),
    "duckdb": lambda path: [row[0] for row in duckdb.sql(f"SELECT plate FROM '{path}'").fetchall()],
    "pyarrow": lambda path: csv.read_csv(path)["plate"].to_pylist(),
}
print(", ".join(f"{name} {version(name)}" for name in READERS))
print("assumed: plates hold letters, so a reader of CSV that guesses types takes them for texts")
holds = True
for country, plates in FILES.items():
    path = f"{country}.csv"
    with open(path, "w") as file:
        file.write("\n".join(["plate,score", *(f"{plate},0.98" for plate in plates), ""]))
    for name, read in READERS.items():
        seen = read(path)
        print(f"seen: {country} plates {plates}, {name}: {seen}")
        holds &= all(value == math.inf for value in seen)
print("assumed: in JSON a string is a string")
for plates, wanted in ((FILES["Czech"], [math.inf] * 3), (["0012345"], [12345])):
    with open("plates.jsonl", "w") as file:
        file.writelines(json.dumps({"plate": plate}) + "\n" for plate in plates)
    seen = pandas.read_json("plates.jsonl", lines=True)["plate"].tolist()
    print(f"seen: the strings {plates} of JSON Lines, pandas: {seen}")
    holds &= seen == wanted
sys.exit(not holds)
PYTHON
