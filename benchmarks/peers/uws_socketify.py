"""uWebSockets, through socketify: uws_socketify.py CERTIFICATE KEY PORT"""

import json
import sys

from socketify import App, AppListenOptions, AppOptions, OpCode

users = {}


def upgrade(response, request, context):
    response.upgrade(
        request.get_header("sec-websocket-key"),
        request.get_header("sec-websocket-protocol"),
        request.get_header("sec-websocket-extensions"),
        context,
        request.get_query("id"),
    )


def opened(ws):
    user = ws.get_user_data()
    users[user] = ws
    ws.subscribe("all")
    ws.subscribe(user)
    ws.send(json.dumps({"welcome": user}), OpCode.TEXT)


def message(ws, text, opcode):
    sent = json.loads(text)
    frame = json.dumps({"from": ws.get_user_data(), "content": sent["content"]})
    if sent["to"] == "*":
        ws.publish("all", frame, OpCode.TEXT)
    else:
        other = users.get(sent["to"])
        if other is not None:
            other.send(frame, OpCode.TEXT)


def closed(ws, code, reason):
    users.pop(ws.get_user_data(), None)


app = App(AppOptions(cert_file_name=sys.argv[1], key_file_name=sys.argv[2]))
app.ws(
    "/*",
    {
        "upgrade": upgrade,
        "open": opened,
        "message": message,
        "close": closed,
        "max_backpressure": 64 * 1024 * 1024,
        "idle_timeout": 120,
    },
)
port = int(sys.argv[3])
app.listen(
    AppListenOptions(port=port, host="127.0.0.1"),
    lambda options: print(f"listening {port}", flush=True),
)
app.run()
