// Classic clients that do not wait: each sends all that it has at once, to the next one.
//
// Environment as of interop.js.  Prints `ok flood` when everything has come, once and in order, and
// nobody was refused anything or cut off.
"use strict";
const assert = require("node:assert");
const { User, run } = require("./interop.js");

const USERS = 8;
const MESSAGES = 3000;
const PADDING = "x".repeat(4000);

// Resolves when a user has heard everything that the one before says.
function heard(user, from) {
  let next = 0;
  return new Promise((resolve, reject) => {
    user.socket.removeAllListeners("message");
    user.socket.on("message", (data) => {
      const message = JSON.parse(data.toString("utf8"));
      const expected = `${next} ${PADDING}`;
      if (message.header.from !== from || message.body.content !== expected) {
        const said = `${message.header.from}: ${message.body.content.slice(0, 100)}`;
        reject(new Error(`${user.id} should have heard ${next} of ${from}, and not ${said}`));
      }
      if (++next === MESSAGES) resolve();
    });
    user.socket.on("close", (code) => reject(new Error(`${user.id} was cut off: ${code}`)));
  });
}

run(async () => {
  const users = Array.from({ length: USERS }, (_, number) => new User(`flood-${number}`));
  for (const user of users) {
    assert.strictEqual((await user.register()).status, 201);
    await user.open();
  }
  const all = users.map((user, number) => heard(user, users.at(number - 1).id));
  for (const [number, user] of users.entries()) {
    const to = users[(number + 1) % USERS].id;
    for (let n = 0; n < MESSAGES; n++) {
      user.socket.send(JSON.stringify({ header: { to }, body: { content: `${n} ${PADDING}` } }));
    }
  }
  await Promise.all(all);
  console.log("ok flood");
  for (const user of users) user.socket.terminate();
});
