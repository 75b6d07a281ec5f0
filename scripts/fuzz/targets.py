"""The targets, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from scripts.fuzz.client import Files, client_target, handshake_target, lines_target
from scripts.fuzz.engine import Target
from scripts.fuzz.pure import v1_target, wire_target
from scripts.fuzz.server import Frames, Http

TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "wire": lambda: wire_target,
    "v1": lambda: v1_target,
    "http": Http,
    "frames": Frames,
    "client": lambda: client_target,
    "handshake": lambda: handshake_target,
    "files": Files,
    "lines": lambda: lines_target,
}
