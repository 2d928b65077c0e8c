#!/usr/bin/env bash
# The browser's reader of VIN labels answers with pallets' and lots' numbers, and makes VINs of them by leaving letters out.
. "$(dirname "$0")/prepare.bash"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" @ericblade/quagga2@1.12.1 bwip-js@4.11.4 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
cat >read.js <<'NODE'
const quagga = require("@ericblade/quagga2").default;
const bwip = require("bwip-js");

async function read(text) {
  const picture = await bwip.toBuffer({
    bcid: "code39", text, scale: 2, height: 20, paddingwidth: 20, paddingheight: 10, backgroundcolor: "FFFFFF",
  });
  const result = await new Promise((done) => quagga.decodeSingle({
    src: `data:image/png;base64,${picture.toString("base64")}`,
    numOfWorkers: 0,
    inputStream: { size: 1000 },
    decoder: { readers: ["code_39_vin_reader"] },
  }, done));
  return result?.codeResult?.code ?? null;
}

(async () => {
  let holds = true;
  for (const [text, wanted] of [
    ["I1M8GDM9AXKP042788", "1M8GDM9AXKP042788"], // behind the data identifier
    ["1M8GDM9AXKP042789", "1M8GDM9AXKP042789"], // its check digit fails
    ["PALLET00123456789012", "PALLET00123456789012"],
    ["LOT0Q1234567890ABCD", "LT01234567890ABCD"],
  ]) {
    const seen = await read(text);
    console.log(`seen: a label ${text} is read as the VIN ${seen}`);
    holds &&= seen === wanted;
  }
  process.exit(holds ? 0 : 1);
})().catch((error) => { console.log(error); process.exit(2); });
NODE
echo "@ericblade/quagga2 1.12.1, code_39_vin_reader"
echo "assumed: it reads 17 characters whose check digit holds, behind an I or not, and nothing else"
node read.js
