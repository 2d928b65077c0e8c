// Runs the nodes of node-red-contrib-plate-recognizer, as a flow of Node-RED would, with the settings that
// standard input names, and writes what they send and show into a file. This runtime is as much of Node-RED as
// the nodes use of it.
import { readFileSync, writeFileSync } from "node:fs";
import recognizer from "node-red-contrib-plate-recognizer/plate-recognizer.js";
import statistics from "node-red-contrib-plate-recognizer/plate-statistics.js";

const types = {};
const runtime = {
  settings: {},
  util: {
    evaluateNodeProperty: (value) => JSON.parse(value),
    getMessageProperty: (message, name) => message[name],
    setMessageProperty: (message, name, value) => (message[name] = value),
    cloneMessage: (message) => structuredClone(message),
  },
  nodes: {
    registerType: (name, constructor) => (types[name] = constructor),
    createNode(node, { token, done }) {
      node.credentials = { apiToken: token };
      node.on = (event, handler) => (node[event] = handler);
      node.shown = [];
      node.status = ({ text }) => node.shown.push(text ?? "");
      // What is shown after sending belongs to the message.
      node.send = (sent) => setImmediate(() => done({ sent, shown: node.shown.at(-1) }));
      node.error = (message) => done({ error: message });
    },
  },
};
recognizer(runtime);
statistics(runtime);

const { token, calls } = JSON.parse(readFileSync(0, "utf8"));
const answers = [];
for (const { type, settings, photo } of calls) {
  answers.push(
    await new Promise((done) => {
      const node = new types[type]({ outputField: "payload", inputField: "image", ...settings, token, done });
      node.input({ image: photo && readFileSync(photo) });
    }),
  );
}
writeFileSync(process.argv[2], JSON.stringify(answers));
