#!/usr/bin/env bash
# validator.js's isLicensePlate refuses whole series that have been issued for years, and every plate as an ALPR writes it.
. "$(dirname "$0")/prepare.bash"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" validator@13.15.35 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
node - <<'NODE'
const { isLicensePlate } = require("validator");
console.log("validator 13.15.35");
console.log("assumed: a plate of a country that it knows passes, with or without its separators, and what passes is one");
const rows = [
  ["hu-HU", "ABC-123", "Hungary, the older series", true],
  ["hu-HU", "AA BC-123", "Hungary, the series since July 2022", false],
  ["en-IN", "KA 01 AB 1234", "India, a state's series", true],
  ["en-IN", "22 BH 1234 AA", "India, the Bharat series since 2021, for every state", false],
  ["en-SG", "SBA 1234 A", "Singapore, four digits", true],
  ["en-SG", "SBA 123 A", "Singapore, three digits: numbers have no leading zeros", false],
  ["es-AR", "AB 123 CD", "Argentina, a car", true],
  ["es-AR", "A123BCD", "Argentina, a motorcycle since 2016", false],
  ["hu-HU", "ABC123", "Hungary, without the hyphen", false],
  ["pt-BR", "abc1d23", "Brazil, in lower case as Plate Recognizer and CarsXE write plates", false],
  ["pt-BR", "ABC1D2345", "nine characters, no plate: half of the pattern has no end, the other no beginning", true],
];
let holds = true;
for (const [locale, plate, what, wanted] of rows) {
  const seen = isLicensePlate(plate, locale);
  console.log(`seen: ${locale} ${plate} (${what}): ${seen ? "accepted" : "refused"}`);
  holds &&= seen === wanted;
}
process.exit(holds ? 0 : 1);
NODE
