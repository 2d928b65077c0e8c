#!/usr/bin/env bash
# Ids that DuckDB writes to Parquet arrive as other values: UUIDs as bytes, whole numbers that were summed rounded.
. "$(dirname "$0")/prepare.bash"
with_packages duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1 pandas==3.1.1 arro3-core==0.9.1 arro3-io==0.9.1
cd "$home"
"$python" - <<'PYTHON'
import sys
import uuid
from importlib.metadata import version

import duckdb
import pandas
import polars
import pyarrow.parquet
from arro3.io import read_parquet

ID, NUMBER = "61e659e5-7293-4e4b-af38-561c56978479", 2**53 + 1
duckdb.sql(f"COPY (SELECT UUID '{ID}' AS id) TO 'uuid.parquet' (FORMAT parquet)")
duckdb.sql(f"COPY (SELECT sum(part) AS id FROM (VALUES ({NUMBER - 1}), (1)) AS t(part)) TO 'sum.parquet' (FORMAT parquet)")
(summed,) = duckdb.sql(f"SELECT sum(part) FROM (VALUES ({NUMBER - 1}), (1)) AS t(part)").fetchall()[0]

READ = {
    "duckdb": lambda file: duckdb.sql(f"FROM '{file}'").fetchall()[0][0],
    "pyarrow": lambda file: pyarrow.parquet.read_table(file)["id"].to_pylist()[0],
    "pandas": lambda file: pandas.read_parquet(file)["id"].iloc[0],
    "polars": lambda file: polars.read_parquet(file)["id"][0],
    "arro3": lambda file: next(iter(read_parquet(open(file, "rb"))))["id"].to_pylist()[0],
}
print(", ".join(f"{name} {version(name if name != 'arro3' else 'arro3-io')}" for name in READ))
print("assumed: an id is what it was, whatever reads the file")
holds = summed == NUMBER
print(f"seen: DuckDB's own sum is {summed}")
for name, read in READ.items():
    found, rounded = read("uuid.parquet"), read("sum.parquet")
    print(f"seen: {name:7}: UUID {ID} is {found!r}, {NUMBER} is {rounded!r}")
    is_bytes = name in ("polars", "arro3")
    holds &= found == (uuid.UUID(ID).bytes if is_bytes else uuid.UUID(ID))
    holds &= isinstance(rounded, float) and rounded == NUMBER - 1
sys.exit(not holds)
PYTHON
