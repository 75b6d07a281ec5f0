"""
A reader in a process of its own: resumes, reads all that waits, and acknowledges it in steps.

    python -m tests.backlog URL CERTIFICATE

prints how many messages came, whether their ids ascended, and how many seconds it took.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import sys
import time

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

#: An acknowledgement for so many messages.
STEP = 500


async def read(url: str, certificate: str) -> None:
    context = ssl.create_default_context(cafile=certificate)
    v1 = [Subprotocol("wschat.v1")]
    ids: list[int] = []
    async with connect(url, ssl=context, subprotocols=v1, proxy=None, max_size=None) as socket:
        begun = time.monotonic()
        await socket.send(json.dumps({"type": "resume", "session": "reader"}))
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] == "message":
                ids.append(frame["id"])
                if len(ids) % STEP == 0:
                    await socket.send(json.dumps({"type": "ack", "id": ids[-1]}))
            elif frame["type"] == "caught_up":
                await socket.send(json.dumps({"type": "ack", "id": frame["id"]}))
                break
        took = time.monotonic() - begun
    ascending = all(a < b for a, b in itertools.pairwise(ids))
    print(json.dumps({"count": len(ids), "ascending": ascending, "seconds": took}))


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1], sys.argv[2]))
