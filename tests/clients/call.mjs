// Runs CarsXE's npm client against the base URL and with the keys that standard input names, and writes the
// answers into a file: the client itself writes to standard output.
import { readFileSync, writeFileSync } from "node:fs";
import { CarsXE } from "carsxe-api";

const { baseUrl, calls } = JSON.parse(readFileSync(0, "utf8"));
CarsXE.prototype.getBaseUrl = () => baseUrl;

const answers = [];
for (const { key, method, image } of calls) {
  answers.push(await new CarsXE(key)[method]({ imageUrl: image }));
}
writeFileSync(process.argv[2], JSON.stringify(answers));
