"""
The frames that nearly all traffic is made of, read in one step.  Pure.

A whole, unfragmented, masked text frame without extensions needs no more than
this, nor does a pong.  Everything else, and all that is wrong in any way, is
for Autobahn.
"""

from __future__ import annotations

#: FIN and text, or a pong, without reserved bits (RFC 6455 section 5.2).
_TEXT = 0x81
_PONG = 0x8A


def take_text(data: bytes, start: int, longest: int) -> tuple[bytes, int] | None:
    """
    The payload of the text frame at `start` of `data`, and where the next frame begins.

    None unless the frame is whole and right: masked, of the shortest form of
    its length, valid UTF-8, and not longer than `longest` bytes or 65535.
    """
    body = start + 6
    end = len(data)
    if body > end or data[start] != _TEXT:
        return None
    size = data[start + 1] - 0x80  # what is left of a masked frame's length
    if size == 126:
        body += 2
        size = int.from_bytes(data[start + 2 : start + 4], "big")
        if size < 126:
            return None
    elif not 0 <= size < 126:
        return None
    after = body + size
    if after > end or size > longest:
        return None
    payload = _unmasked(data, body, size)
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            return None
    return payload, after


def take_pong(data: bytes, start: int) -> tuple[bytes, int] | None:
    """
    The payload of the pong at `start` of `data`, and where the next frame begins.

    None unless the frame is whole and right: masked, and of 125 bytes at most.
    """
    body = start + 6
    if body > len(data) or data[start] != _PONG:
        return None
    size = data[start + 1] - 0x80
    after = body + size
    if not 0 <= size < 126 or after > len(data):
        return None
    return _unmasked(data, body, size), after


def _unmasked(data: bytes, body: int, size: int) -> bytes:
    """The payload of so many bytes at `body`, whose mask is before it."""
    mask = data[body - 4 : body] * (size // 4 + 1)
    key = int.from_bytes(mask[:size], "little")
    return (int.from_bytes(data[body : body + size], "little") ^ key).to_bytes(size, "little")
