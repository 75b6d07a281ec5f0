"""The client side of wschat: log in, talk, stay connected."""

from wschat.client.connection import Client, Counters, Heard, Listener, State
from wschat.client.settings import Settings

__all__ = ["Client", "Counters", "Heard", "Listener", "Settings", "State"]
