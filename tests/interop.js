// A client that the project did not write: Node's `https`, `crypto` and `ws`, and WIRE.md.
//
//   NODE_PATH  where `ws` is       PORT  the server's TLS port       CA  its certificate
//
// Prints `ok NAME` for each thing that holds; the first that does not ends it with 1.
"use strict";
const assert = require("node:assert");
const crypto = require("node:crypto");
const fs = require("node:fs");
const https = require("node:https");
const WebSocket = require("ws");

const port = Number(process.env.PORT);
const ca = fs.readFileSync(process.env.CA);

// One HTTP request; resolves to its status and its body.
function request(method, path, body) {
  return new Promise((resolve, reject) => {
    const options = { host: "localhost", port, ca, method, path, agent: false };
    const asked = https.request(options, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part) => (text += part));
      response.on("end", () => resolve({ status: response.statusCode, text }));
    });
    asked.on("error", reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

class User {
  constructor(id) {
    this.id = id;
    const { privateKey, publicKey } = crypto.generateKeyPairSync("ed25519");
    this.privateKey = privateKey;
    // The raw key is the last 32 bytes of the DER encoding (RFC 8410).
    this.publicKey = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
  }

  sign(bytes) {
    return crypto.sign(null, Buffer.from(bytes), this.privateKey).toString("base64");
  }

  register() {
    const publicKey = this.publicKey.toString("base64");
    const body = { user_id: this.id, username: this.id, public_key: publicKey };
    return request("POST", "/auth/register", body);
  }

  async login() {
    const asked = await request("POST", "/auth/login", { user_id: this.id });
    const { challenge } = JSON.parse(asked.text);
    const signature = this.sign(Buffer.from(challenge, "base64"));
    const body = { user_id: this.id, signature, challenge };
    const answered = await request("POST", "/auth/login?verify=true", body);
    assert.strictEqual(answered.status, 200, answered.text);
    return JSON.parse(answered.text).token;
  }

  // Open a socket; what comes waits in a queue.
  async open() {
    this.socket = new WebSocket(url(await this.login()), { ca });
    this.messages = [];
    this.waiting = [];
    this.socket.on("message", (data, isBinary) => {
      assert(!isBinary, "a text frame");
      const message = JSON.parse(data.toString("utf8"));
      const next = this.waiting.shift();
      if (next) next(message);
      else this.messages.push(message);
    });
    await new Promise((resolve, reject) => {
      this.socket.on("open", resolve);
      this.socket.on("error", reject);
    });
  }

  say(to, content, header = {}) {
    const text = JSON.stringify(content).replace(/[<>&]/g, (c) => "\\u00" + c.charCodeAt(0).toString(16));
    const timestamp = new Date().toISOString();
    const head = { from: this.id, to, timestamp, signature: this.sign(text), ...header };
    this.socket.send(JSON.stringify({ header: head, body: { content } }));
  }

  hear() {
    if (this.messages.length) return Promise.resolve(this.messages.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  close() {
    const closed = new Promise((resolve) => this.socket.on("close", resolve));
    this.socket.close(1000);
    return closed;
  }
}

const url = (token) => `wss://localhost:${port}/ws?token=${token}`;

// The status with which an upgrade is refused.
function refusal(token) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url(token), { ca });
    socket.on("unexpected-response", (asked, response) => {
      resolve(response.statusCode);
      asked.destroy();
    });
    socket.on("open", () => reject(new Error("let in")));
    socket.on("error", () => {});
  });
}

async function main() {
  const ann = new User("ann");
  const ben = new User("ben");
  for (const user of [ann, ben]) assert.strictEqual((await user.register()).status, 201);
  assert.strictEqual((await ann.register()).status, 409);
  console.log("ok register");

  assert.strictEqual(await refusal("nonsense"), 401);
  console.log("ok refusal");

  await ann.open();
  ann.say("ben", "quokka <1> & é 👋");
  ann.say("broadcast", "quokka 2", { message_type: "broadcast", is_broadcast: true });
  await ben.open();
  const [first, second] = [await ben.hear(), await ben.hear()];
  assert.deepStrictEqual([first.header.from, first.header.to], ["ann", "ben"]);
  assert.strictEqual(first.body.content, "quokka <1> & é 👋");
  assert.strictEqual(second.header.message_type, "broadcast");
  assert.strictEqual(second.header.is_broadcast, true);
  assert(Number.isInteger(first.id) && second.id > first.id);
  console.log("ok offline");

  ben.say("ann", "quokka 3", { from: "ann" });
  const answer = await ann.hear();
  assert.deepStrictEqual([answer.header.from, answer.header.to], ["ben", "ann"]);
  assert.strictEqual(answer.status, "delivered");
  console.log("ok direct");

  const command = JSON.stringify({ command: "echo", params: { a: ["quokka"] }, request_id: "r1" });
  ann.say("server", command, { signature: ann.sign(command) });
  const echoed = await ann.hear();
  assert.strictEqual(echoed.header.from, "server");
  const result = { echo: { a: ["quokka"] }, sender: "ann" };
  assert.deepStrictEqual(JSON.parse(echoed.body.content), { success: true, request_id: "r1", result });
  console.log("ok command");

  assert.strictEqual(await ann.close(), 1000);
  assert.strictEqual(await ben.close(), 1000);
  console.log("ok close");
}

// Run a program's steps; the first that fails ends it with 1.
function run(steps) {
  steps().catch((error) => {
    console.error(error);
    process.exit(1);
  });
}

module.exports = { User, request, run };
if (require.main === module) run(main);
