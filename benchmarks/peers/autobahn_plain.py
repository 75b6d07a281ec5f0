"""
Autobahn with sendMessage to each, on Twisted's ssl: endpoint.

autobahn_plain.py CERTIFICATE KEY
"""

import json
import sys

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import endpoints, reactor

users = {}


class Peer(WebSocketServerProtocol):
    def onConnect(self, request):
        self.user = request.params["id"][0]

    def onOpen(self):
        users[self.user] = self
        self.sendMessage(json.dumps({"welcome": self.user}).encode())

    def onMessage(self, payload, isBinary):
        sent = json.loads(payload)
        frame = json.dumps({"from": self.user, "content": sent["content"]}).encode()
        if sent["to"] == "*":
            for other in users.values():
                if other is not self:
                    other.sendMessage(frame)
        elif sent["to"] in users:
            users[sent["to"]].sendMessage(frame)

    def onClose(self, wasClean, code, reason):
        if users.get(getattr(self, "user", None)) is self:
            del users[self.user]


factory = WebSocketServerFactory()
factory.protocol = Peer
text = f"ssl:0:interface=127.0.0.1:backlog=4096:certKey={sys.argv[1]}:privateKey={sys.argv[2]}"
listening = endpoints.serverFromString(reactor, text).listen(factory)
listening.addCallback(lambda port: print("listening", port.getHost().port, flush=True))
reactor.run()
