"""The client side of wschat: log in, talk, stay connected."""

from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.chat import Chat, CommandFailed, Metrics
from wschat.client.connection import Client
from wschat.client.handlers import STOP, Filter, Message
from wschat.client.listener import Counters, Heard, History, Listener, SessionOver, State
from wschat.client.opening import connect
from wschat.client.receipts import ChatClosed, DeliveryUnknown, MessageRefused, Receipt, Sent
from wschat.client.session import QueueFull
from wschat.client.settings import Settings

__all__ = [
    "STOP",
    "Chat",
    "ChatClosed",
    "Client",
    "CommandFailed",
    "ConnectionProblem",
    "Counters",
    "DeliveryUnknown",
    "Filter",
    "Heard",
    "History",
    "Listener",
    "Message",
    "MessageRefused",
    "Metrics",
    "QueueFull",
    "Receipt",
    "RequestRefused",
    "Sent",
    "SessionOver",
    "Settings",
    "State",
    "connect",
]
