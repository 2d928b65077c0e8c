#!/usr/bin/env bash
# A photo that a Node program holds in a Buffer is sent as a part without a file name, or destroyed before it is sent.
. "$(dirname "$0")/prepare.bash"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" form-data@4.0.6 axios@1.21.1 \
  >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
cat >send.js <<'NODE'
const http = require("http");
const axios = require("axios");
const Packaged = require("form-data");
const photo = Buffer.from([0xff, 0xd8, 0xff, 0xe0]);
const bodies = {};
const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    bodies[request.url.slice(1)] = Buffer.concat(chunks);
    response.end("{}");
  });
});
server.listen(0, "127.0.0.1", async () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const packaged = new Packaged();
  packaged.append("upload", photo);
  bodies["form-data"] = packaged.getBuffer();
  await axios.postForm(`${url}/axios`, { upload: photo });
  const own = new FormData();
  own.append("upload", photo);
  await fetch(`${url}/node`, { method: "POST", body: own });
  server.close();
  console.log(`form-data 4.0.6, axios 1.21.1, node ${process.version}`);
  console.log("assumed: a form's part that holds bytes has a file name, as a browser's and curl's has");
  const seen = Object.entries(bodies).map(([name, body]) => {
    const whole = body.includes(photo);
    const file = body.includes("filename=");
    const type = /content-type: (\S+)/i.exec(body.toString("latin1"))?.[1] ?? "none";
    console.log(`seen: ${name}: file name ${file}, type ${type}, the photo's bytes ${whole ? "whole" : "LOST"}`);
    return [name, file, type, whole].join();
  });
  const octets = "application/octet-stream";
  const wanted = [`form-data,false,${octets},true`, `axios,false,${octets},true`, "node,false,none,false"];
  process.exit(JSON.stringify(seen) === JSON.stringify(wanted) ? 0 : 1);
});
NODE
node send.js
