// Calls the service with the types that openapi-typescript makes of its description: URL, key, photo, VIN photo.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

const [baseUrl, key, plate, vin] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { "x-api-key": key } });
const base64 = (file: string): string => readFileSync(file).toString("base64");

const read = await client.POST("/platerecognition", { body: { image_url: base64(plate), regions: ["us-ca"] } });
if (!read.data) throw new Error(read.error.message);
const text: string = read.data.results[0].plate;

const number = await client.POST("/v1/vinocr", { body: { image: base64(vin) } });
if (!number.data) throw new Error(number.error.message);
const digits: string = number.data.vin;

const nothing = await client.POST("/platerecognition", { body: { image_url: "not an image!" } });
if (!nothing.error) throw new Error("an image that is none was read");
console.log(JSON.stringify({ plate: text, vin: digits, message: nothing.error.message, code: nothing.error.code }));
