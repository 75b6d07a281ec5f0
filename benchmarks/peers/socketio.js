// Socket.IO: node socketio.js CERTIFICATE KEY
'use strict';
const fs = require('fs');
const https = require('https');
const { Server } = require('socket.io');

const server = https.createServer({
  cert: fs.readFileSync(process.argv[2]),
  key: fs.readFileSync(process.argv[3]),
});
const io = new Server(server, { transports: ['websocket'], serveClient: false });

io.on('connection', (socket) => {
  const { id } = socket.handshake.auth;
  socket.join(id);
  socket.on('message', ({ to, content }) => {
    if (to === '*') socket.broadcast.emit('message', { from: id, content });
    else socket.to(to).emit('message', { from: id, content });
  });
});
server.on('tlsClientError', () => {});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(`listening ${server.address().port}`);
});
