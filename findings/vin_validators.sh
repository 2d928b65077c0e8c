#!/usr/bin/env bash
# The VIN validators that web forms use refuse Europe's VINs and accept seventeen zeros.
. "$(dirname "$0")/prepare.bash"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" \
  vin-validator@1.0.0 @form-validation/validator-vin@2.4.0 >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
node - <<'NODE'
const simple = require("vin-validator").validate;
const form = (value) => require("@form-validation/validator-vin").vin().validate({ value, options: {} }).valid;
console.log("vin-validator 1.0.0, @form-validation/validator-vin 2.4.0");
console.log("assumed: a real VIN passes, and what passes might be one");
const rows = [
  ["1M8GDM9AXKP042788", "the usual example of a check digit", true],
  ["WVWZZZ1KZ6W612305", "a Volkswagen for Europe, where position 9 is Z", false],
  ["VF1AAAAA555000123", "a Renault's form, where position 9 is a digit of the model", false],
  ["00000000000000000", "no VIN", true],
  ["11111111111111111", "no VIN", true],
];
let holds = true;
for (const [vin, what, wanted] of rows) {
  const seen = [simple(vin), form(vin)];
  console.log(`seen: ${vin} (${what}): ${seen.map((ok) => (ok ? "accepted" : "refused")).join(", ")}`);
  holds &&= seen.every((ok) => ok === wanted);
}
process.exit(holds ? 0 : 1);
NODE
