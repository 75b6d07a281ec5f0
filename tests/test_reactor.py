"""Tests of `wschat.reactor`, in processes of their own: a reactor is installed once in each."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

#: Connections that are reset while the server reads, writes, and has a producer, twice over.
RESETS = """
    import socket, struct
    from wschat import reactor as plugin
    plugin.install()
    from twisted.internet import error, reactor
    from twisted.internet.protocol import Factory, Protocol

    CONNECTIONS, ROUNDS = 24, 3
    lost = []

    class Server(Protocol):
        def connectionMade(self):
            self.factory.made.append(self)
            if len(self.factory.made) % 3 == 0:
                self.transport.write(b"x" * 10_000_000)
            elif len(self.factory.made) % 3 == 1:
                self.transport.registerProducer(self, True)
            self.talk()
            if len(self.factory.made) % CONNECTIONS == 0:
                reactor.callLater(0.1, reset)

        def talk(self):
            # Never idle, so that the reset is met in every state.
            if self not in lost:
                self.transport.write(b"x" * 300)
                reactor.callLater(0.001, self.talk)

        def pauseProducing(self): pass
        def resumeProducing(self): pass
        def stopProducing(self): pass

        def connectionLost(self, reason):
            assert reason.check(error.ConnectionLost), reason
            lost.append(self)
            if len(lost) == len(set(lost)) == CONNECTIONS * ROUNDS:
                print("all were lost")
                reactor.stop()
            elif len(lost) % CONNECTIONS == 0:
                connect()

    factory = Factory.forProtocol(Server)
    factory.made = []
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    sockets = []

    def connect():
        address = "127.0.0.1", port.getHost().port
        sockets.extend(socket.create_connection(address) for _ in range(CONNECTIONS))

    def reset():
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
        sockets.clear()

    reactor.callLater(0, connect)
    reactor.callLater(20, reactor.stop)
    reactor.run()
"""

#: What somebody else's callback raises is reported as the loop would.
FAULT = """
    import logging
    from wschat import reactor as plugin
    plugin.install()
    from twisted.internet import reactor

    class Told(logging.Handler):
        def emit(self, record):
            print(record.getMessage().splitlines()[0])
            reactor.callFromThread(reactor.stop)

    logging.getLogger("asyncio").addHandler(Told())

    def fault():
        raise RuntimeError("of somebody else")

    reactor._asyncioEventloop.call_soon(fault)
    reactor.callLater(20, reactor.stop)
    reactor.run()
"""


def run(script: str, silent: bool = False) -> str:
    """What a script prints; a `silent` one has nothing to complain about."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0 and not (silent and done.stderr), done.stderr
    return done.stdout


#: What is only a connection's own end is not reported.
LEFT = """
    from wschat import reactor as plugin
    plugin.install()
    from twisted.internet import reactor

    def left():
        for error in (ConnectionResetError, ConnectionResetError(104, "reset")):
            reactor._asyncioEventloop.call_exception_handler({"message": "m", "exception": error})
        reactor.callLater(0, reactor.stop)

    reactor.callLater(0, left)
    reactor.run()
    print("stopped")
"""


#: What is called soon, or from a thread, may fail; then it is told, and the rest goes on.
CALLS = """
    import sys
    from twisted.logger import globalLogBeginner, textFileLogObserver
    from wschat import reactor as plugin
    plugin.install()
    from twisted.internet import reactor
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)

    def fail():
        raise ValueError("a fault")

    def both():
        reactor.soon(fail)
        reactor.soon(lambda: print("soon"))
        reactor.callInThread(in_thread)

    def in_thread():
        reactor.callFromThread(fail)
        reactor.callFromThread(sys.exit, 3)
        reactor.callFromThread(lambda *args, **named: print(args, named), 1, two=2)
        reactor.callFromThread(reactor.stop)

    reactor.callLater(0, both)
    reactor.run()
"""


class ReactorTests(TestCase):
    """`twistd --reactor=uvloop`."""

    def test_resets(self) -> Deferred[None]:
        """Each connection that is reset is lost, soon, and its descriptor can be used again."""
        return deferToThread(run, RESETS).addCallback(self.assertEqual, "all were lost\n")

    def test_left(self) -> Deferred[None]:
        """A peer that leaves is no fault, whether the loop is told an error or its class."""
        return deferToThread(run, LEFT, silent=True).addCallback(self.assertEqual, "stopped\n")

    def test_faults(self) -> Deferred[None]:
        """Faults that are no connection's are the loop's to report."""
        told = deferToThread(run, FAULT)
        return told.addCallback(lambda line: self.assertIn("fault", line))

    def test_calls(self) -> Deferred[None]:
        """Calls come in their order, with what they are given; one that fails is logged."""

        def told(text: str) -> None:
            self.assertEqual(text.count("ValueError: a fault"), 2)
            self.assertEqual(text.count("SystemExit: 3"), 1)
            lines = text.splitlines()
            self.assertLess(lines.index("soon"), lines.index("(1,) {'two': 2}"))

        return deferToThread(run, CALLS).addCallback(told)
