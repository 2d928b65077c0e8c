#!/usr/bin/env bash
# CarsXE's npm client prints the caller's key to standard output with every VIN photo.
. "$(dirname "$0")/prepare.bash"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" carsxe-api@1.4.0 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
cat >call.js <<'NODE'
const { CarsXE } = require("carsxe-api");
const http = require("http");
const server = http.createServer((request, response) => {
  response.setHeader("content-type", "application/json");
  response.end('{"success": true}');
});
server.listen(0, "127.0.0.1", async () => {
  CarsXE.prototype.getBaseUrl = () => `http://127.0.0.1:${server.address().port}`;
  const client = new CarsXE("key-of-the-caller");
  await client[process.argv[2]]({ imageUrl: "https://example.com/car.jpg" });
  server.close();
});
NODE
echo "carsxe-api 1.4.0"
echo "assumed: a client library prints nothing, least of all the key"
for call in plateImageRecognition vinOcr; do
  node call.js "$call" >"$call.txt"
  echo "seen: $call prints: $(sed 's/127.0.0.1:[0-9]*/HOST/' "$call.txt")"
done
[ ! -s plateImageRecognition.txt ] && grep -q "key=key-of-the-caller" vinOcr.txt
