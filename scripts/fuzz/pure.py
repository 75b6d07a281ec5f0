"""What is read without any I/O: classic frames, and those of `wschat.v1`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, TypeVar

from scripts.fuzz.engine import Fault
from scripts.fuzz.transport import json_of
from wschat import envelope, identity, rotation, v1, wire
from wschat.codes import ErrorCode, Refused

Read = TypeVar("Read")

_NOW: Final = 1795341600.0
_KEY: Final = identity.PrivateKey(bytes(range(32)))


def _read(function: Callable[[], Read]) -> Read | None:
    """What was read; None for what is refused, in a line that a peer can be told."""
    try:
        return function()
    except wire.Malformed as refusal:
        if "\n" in refusal.text or len(refusal.text) > 500:
            raise Fault(f"not a line for a peer: {refusal.text!r}") from None
        for dialect in (wire.CLASSIC, v1.DIALECT):
            dialect.refusal("alice", refusal, _NOW)
        return None


def _same(first: object, second: object) -> None:
    if first != second:
        raise Fault(f"{first!r} is not {second!r}")


def _judged(message: wire.Message) -> None:
    """What receivers do with a message: none of it may raise anything else."""
    envelope.authenticity(message, _KEY.public_key)
    envelope.authenticity(message, message.signature)  # a key that is none
    envelope.seconds(message.timestamp)
    wrapped, nonce = message.encrypted_key or "", message.encryption_nonce or ""
    with contextlib.suppress(identity.Unsealable):
        _KEY.open(identity.Sealed(message.content, wrapped, nonce))


def wire_target(data: bytes) -> None:
    """Classic frames, commands and answers: read, written and read again they are the same."""
    message = _read(lambda: wire.decode_submission(data, "alice", _NOW))
    if message is not None:
        _same(message.sender, "alice")
        if message.topic not in wire.RESERVED_NAMES and not wire.valid_user_id(message.topic):
            raise Fault(f"goes to {message.topic!r}")
        if not wire.valid_timestamp(message.timestamp):
            raise Fault(f"at {message.timestamp!r}")
        json_of(wire.encode_delivery(message))
        _same(wire.decode_delivery(wire.encode_delivery(message)), message)
        _same(wire.decode_submission(wire.encode_submission(message), "alice", _NOW), message)
        wire.request_id_of(message.content)
        _read(lambda: wire.decode_command(message.content))
        _judged(message)
    delivered = _read(lambda: wire.decode_delivery(data))
    if delivered is not None:
        json_of(wire.encode_delivery(delivered))
        _judged(delivered)
    text = data.decode("utf-8", "replace")
    command = _read(lambda: wire.decode_command(text))
    if command is not None:
        _same(wire.request_id_of(text), command.request_id)
    answer = _read(lambda: wire.decode_answer(text))
    if answer is not None:
        again = wire.decode_answer(wire.encode_answer(answer))
        _same((again.success, again.request_id), (answer.success, answer.request_id))


def v1_target(data: bytes) -> None:
    """Frames of `wschat.v1`, requests, events and the names in bad ones."""
    client_id, request_id = v1.names_of(data)
    if client_id is not None and not v1.valid_client_id(client_id):
        raise Fault(f"named {client_id!r}")
    refused = Refused(ErrorCode.MALFORMED)
    v1.DIALECT.refusal("alice", refused, _NOW, client_id=client_id, request_id=request_id)
    request = _read(lambda: v1.decode_request(data))
    if request is not None:
        _same(v1.decode_request(v1.encode(request)), request)
    if isinstance(request, v1.Submission):
        message = _read(lambda: v1.submitted(request, "alice", _NOW))
        if message is not None:
            _same(message.sender, "alice")
            json_of(v1.encode(v1.delivery(message, "bob")))
            back = v1.delivered(v1.delivery(message, "alice"))
            back.follows = message.follows
            _same(back, message)
            _judged(message)
    event = _read(lambda: v1.decode_event(data))
    if event is not None:
        _same(v1.decode_event(v1.encode(event)), event)
    if isinstance(event, v1.Delivery):
        _judged(v1.delivered(event))
    with contextlib.suppress(ValueError):
        steps = rotation.chain(data.decode())
        if rotation.follow("alice", _KEY.public_key, steps):
            raise Fault("new keys that alice's key never signed")
