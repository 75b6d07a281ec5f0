"""
Who asks all the time: python -m scripts.soak.probe PORT CERTIFICATE.

A line `answers [MS…]` a second, until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final

import uvloop
from websockets.asyncio.client import ClientConnection

from scripts.soak.person import Account, Place
from wschat import v1

_PROBES: Final = 20


async def _ask(account: Account, socket: ClientConnection, times: list[float]) -> None:
    """One question a second: `ping`, a command, which comes after all that was said before."""
    for number in range(sys.maxsize):
        frame = account.command("ping", None, f"p{number}")
        begun = time.monotonic()
        await socket.send(frame)
        while f'p{number}\\"' not in str(await socket.recv()):
            pass
        times.append(1000 * (time.monotonic() - begun))
        await asyncio.sleep(1)


async def _probe(place: Place, number: int, times: list[float]) -> None:
    account = Account(place, f"probe{number}")
    await asyncio.to_thread(account.make)
    async with place.connect(account.token, subprotocols=[v1.SUBPROTOCOL]) as socket:
        await socket.send(v1.encode(v1.Resume()).decode())
        await asyncio.sleep(number / _PROBES)  # not all at once
        await _ask(account, socket, times)


async def _tell(times: list[float]) -> None:
    while True:
        await asyncio.sleep(1)
        print(f"answers {json.dumps([round(t, 2) for t in times])}", flush=True)
        times.clear()


async def main(port: str, certificate: str) -> None:
    place = Place(int(port), certificate)
    times: list[float] = []
    works = [asyncio.ensure_future(_probe(place, n, times)) for n in range(_PROBES)]
    works.append(asyncio.ensure_future(_tell(times)))
    ending = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait((*works, ending), return_when=asyncio.FIRST_COMPLETED)
    for work in works:
        if work.done():
            work.result()  # none of them ends by itself but for a fault


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
