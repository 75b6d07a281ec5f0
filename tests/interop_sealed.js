// A classic client that seals and signs: Node's `crypto`, `tweetnacl`, and WIRE.md, "Encryption".
//
// Environment as of interop.js.  It registers as nod, and prints a line for the message that comes,
// as WIRE.md says that a receiver does; then it answers, sealed and signed.
"use strict";
const assert = require("node:assert");
const crypto = require("node:crypto");
const nacl = require("tweetnacl");
const { User, request, run } = require("./interop.js");

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));

// The content and the header fields of a sealed text.
function seal(text, recipient) {
  const [key, nonce] = [crypto.randomBytes(32), crypto.randomBytes(12)];
  const cipher = crypto.createCipheriv("aes-256-gcm", key, nonce);
  const sealed = [cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()];
  const [ephemeral, boxNonce] = [nacl.box.keyPair(), nacl.randomBytes(24)];
  const box = nacl.box(new Uint8Array(key), boxNonce, recipient, ephemeral.secretKey);
  const wrapped = Buffer.concat([ephemeral.publicKey, boxNonce, box]);
  const header = { encrypted_key: base64(wrapped), encryption_nonce: base64(nonce) };
  return [base64(Buffer.concat(sealed)), header];
}

// The text of a sealed message.
function open(message, secretKey) {
  const wrapped = bytes(message.header.encrypted_key);
  const [ephemeral, boxNonce] = [wrapped.subarray(0, 32), wrapped.subarray(32, 56)];
  const key = nacl.box.open(wrapped.subarray(56), boxNonce, ephemeral, secretKey);
  assert(key, "the box is for this key");
  const nonce = bytes(message.header.encryption_nonce);
  const content = Buffer.from(message.body.content, "base64");
  const decipher = crypto.createDecipheriv("aes-256-gcm", key, nonce);
  decipher.setAuthTag(content.subarray(-16));
  return decipher.update(content.subarray(0, -16), undefined, "utf8") + decipher.final("utf8");
}

// Whether a user signed a message's content (base64 needs no escapes).
function verified(message, publicKey) {
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), publicKey]);
  const key = crypto.createPublicKey({ key: der, format: "der", type: "spki" });
  const signed = Buffer.from(JSON.stringify(message.body.content));
  return crypto.verify(null, signed, key, Buffer.from(message.header.signature, "base64"));
}

run(async () => {
  const nod = new User("nod");
  const keys = nacl.box.keyPair();
  const registration = {
    user_id: nod.id,
    username: "Nod",
    public_key: base64(nod.publicKey),
    x25519_public_key: base64(keys.publicKey),
  };
  assert.strictEqual((await request("POST", "/auth/register", registration)).status, 201);
  await nod.open();
  console.log("ok open");

  const message = await nod.hear();
  const { from, to } = message.header;
  const sender = JSON.parse((await request("GET", `/auth/users/${from}`)).text);
  const known = ["encrypted_key", "encryption_nonce", "from", "message_type", "signature", "timestamp", "to"];
  assert.deepStrictEqual(Object.keys(message.header).sort(), known);
  const marks = [verified(message, bytes(sender.public_key)) && "[VERIFIED]", message.header.encrypted_key && "[ENCRYPTED]"];
  console.log(`${from} -> ${to} ${marks.join(" ")}: ${open(message, keys.secretKey)}`);

  const [content, header] = seal("quokka <back> & é 👋", bytes(sender.x25519_public_key));
  nod.say(from, content, header);
  assert.strictEqual(await nod.close(), 1000);
  console.log("ok close");
});
