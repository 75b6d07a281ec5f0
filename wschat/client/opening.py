"""How a program becomes a user: `chat = await connect(...)`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from wschat.client import keyring
from wschat.client.chat import Chat
from wschat.client.handlers import THREADS, Threads
from wschat.client.listener import Listener
from wschat.client.settings import Encryption, Settings
from wschat.identity import PrivateKey


def connect(
    user_id: str | None = None,
    server: str | None = None,
    *,
    username: str | None = None,
    session: str | None = None,
    encryption: Encryption | str | None = None,
    insecure_tls: bool | None = None,
    key: PrivateKey | str | None = None,
    passphrase: str | None = None,
    environ: Mapping[str, str] | None = None,
    listener: Listener | None = None,
    threads: int = THREADS,
    wait: bool = True,
    reactor: Any = None,
) -> Deferred[Chat]:
    """
    Be a user on a server; fires with the `Chat` when connected.

    What is not given comes from the environment (docs/clients.md): the
    process's, or `environ`.  `server` is `https://HOST:PORT`, or `HOST:PORT`.
    A `key` that is given is used, another one comes from the user's key file,
    which is made.  With `wait` false it fires at once, and the chat goes on
    trying to connect; otherwise it fails with `ConnectionProblem` or
    `RequestRefused`.  Fails with `SettingsError`, `BadKey` or `KeyringError`
    for what is wrong before that.  When it is cancelled nothing goes on, and
    the end of the reactor closes the chat.  `listener` is told of everything, too;
    `threads` is how many handlers that are plain functions run at once.
    """
    given = {
        "WS_USER_ID": user_id,
        "WS_SERVER_URL": f"https://{server}" if server and "://" not in server else server,
        "WS_USERNAME": username,
        "WS_SESSION": session,
        "WS_ENCRYPTION": encryption,
        "WS_KEY_PASSPHRASE": passphrase,
        "WS_PRIVATE_KEY": key.to_text() if isinstance(key, PrivateKey) else key,
        "INSECURE_TLS": None if insecure_tls is None else str(insecure_tls).lower(),
    }
    wanted = {name: str(value) for name, value in given.items() if value is not None}
    whole = {**(os.environ if environ is None else environ), **wanted}
    if reactor is None:
        from twisted.internet import reactor  # noqa: PLC0415  # not before the program chose one

    async def begin() -> Chat:
        settings = Settings.from_environ(whole)
        own = key if isinstance(key, PrivateKey) else keyring.own_key(settings)[0]
        pool = Threads(reactor, threads)
        chat = Chat(reactor, settings, own, listener=listener, pool=pool)
        _close_at_shutdown(reactor, chat)
        return await chat.open(wait=wait)

    return Deferred.fromCoroutine(begin())


def _close_at_shutdown(reactor: Any, chat: Chat) -> None:
    """Say goodbye when the program is told to end, unless that was done by then."""
    triggers: list[Any] = []

    def close() -> Deferred[None]:
        triggers.clear()
        return chat.close()

    def ended(result: object) -> None:
        for trigger in triggers:
            reactor.removeSystemEventTrigger(trigger)

    triggers.append(reactor.addSystemEventTrigger("before", "shutdown", close))
    chat.ended().addBoth(ended)
