"""picows on uvloop: picows_chat.py CERTIFICATE KEY"""

import json
import ssl
import sys
from urllib.parse import parse_qs, urlsplit

import uvloop
from picows import WSCloseCode, WSListener, WSMsgType, ws_create_server

users = {}


class Peer(WSListener):
    def __init__(self, user):
        self.user = user

    def on_ws_connected(self, transport):
        self.transport = transport
        users[self.user] = transport
        transport.send(WSMsgType.TEXT, json.dumps({"welcome": self.user}).encode())

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
            return
        if frame.msg_type != WSMsgType.TEXT:
            return
        sent = json.loads(frame.get_payload_as_bytes())
        text = json.dumps({"from": self.user, "content": sent["content"]}).encode()
        if sent["to"] == "*":
            for other in users.values():
                if other is not transport:
                    other.send(WSMsgType.TEXT, text)
        elif sent["to"] in users:
            users[sent["to"]].send(WSMsgType.TEXT, text)

    def on_ws_disconnected(self, transport):
        if users.get(self.user) is transport:
            del users[self.user]


def accept(request):
    path = request.path.decode() if isinstance(request.path, bytes) else request.path
    return Peer(parse_qs(urlsplit(path).query)["id"][0])


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server = await ws_create_server(accept, "127.0.0.1", 0, ssl=context, backlog=4096)
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


uvloop.run(main())
