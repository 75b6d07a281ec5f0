// Node's `ws`: node node_ws.js CERTIFICATE KEY
'use strict';
const fs = require('fs');
const https = require('https');
const { WebSocketServer } = require('ws');

const server = https.createServer({
  cert: fs.readFileSync(process.argv[2]),
  key: fs.readFileSync(process.argv[3]),
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
const users = new Map();

sockets.on('connection', (socket, request) => {
  const id = new URL(request.url, 'https://localhost').searchParams.get('id');
  users.set(id, socket);
  socket.on('message', (data) => {
    const { to, content } = JSON.parse(data);
    const frame = JSON.stringify({ from: id, content });
    if (to === '*') {
      for (const other of sockets.clients) if (other !== socket) other.send(frame);
    } else {
      users.get(to)?.send(frame);
    }
  });
  socket.on('close', () => users.get(id) === socket && users.delete(id));
  socket.on('error', () => {});
  socket.send(JSON.stringify({ welcome: id }));
});
server.on('tlsClientError', () => {});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(`listening ${server.address().port}`);
});
