#!/usr/bin/env bash
# JSONata in Python, on which local Step Functions run, counts null as nothing, 5.5 % 2 as 1 and true as another 1.
. "$(dirname "$0")/prepare.bash"
with_packages jsonata-python==0.7.1
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" jsonata@2.2.2 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
cat >asked.json <<'JSON'
["$count(plate)", "5.5 % 2", "$distinct([1, true])", "$number('1_000')", "$formatNumber(0.125, '0.00')",
 "$base64encode('Ö-AB 1')", "$string(100000000000000000000)", "$number('1E2')", "$round(2.5)", "$string(0.1 + 0.2)"]
JSON
cat >ask.js <<'NODE'
const jsonata = require("jsonata");
(async () => {
  const seen = [];
  for (const text of require("./asked.json")) {
    try {
      seen.push(await jsonata(text).evaluate({ plate: null }));
    } catch (error) {
      seen.push("an error");
    }
  }
  console.log(JSON.stringify(seen));
})();
NODE
node ask.js >javascript.json || exit 2
"$python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version

from jsonata.jsonata import Jsonata

print("jsonata-python", version("jsonata-python"), "(which ministack 1.5.33 evaluates states with) - jsonata 2.2.2, the language's own")
print("assumed: an expression has one value")
asked, javascript = json.load(open("asked.json")), json.load(open("javascript.json"))
different = []
for text, there in zip(asked, javascript, strict=True):
    try:
        here = Jsonata(text).evaluate({"plate": None})
    except Exception:
        here = "an error"
    same = json.dumps(here) == json.dumps(there)
    different.append(not same)
    print(f"seen: {text:32} {'both ' + json.dumps(here) if same else f'Python {json.dumps(here)}, JavaScript {json.dumps(there)}'}")
sys.exit(different != [True] * 7 + [False] * 3)
PYTHON
