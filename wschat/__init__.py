"""wschat: a messaging server that keeps what it accepts, and its clients."""

__version__ = "0.1.0"
