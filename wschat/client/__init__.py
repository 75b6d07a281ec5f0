"""The client side of wschat: log in, talk, stay connected."""

from wschat.client.connection import Client
from wschat.client.listener import Counters, Heard, History, Listener, SessionOver, State
from wschat.client.settings import Settings

__all__ = [
    "Client",
    "Counters",
    "Heard",
    "History",
    "Listener",
    "SessionOver",
    "Settings",
    "State",
]
