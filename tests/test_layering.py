"""
The layers: which module may import which, and that each has its tests.

What is checked is the source text, so that nothing has to be imported, and
imports inside functions count as well.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

ROOT: Final = Path(__file__).resolve().parent.parent

#: The server's modules, from the inside out.  A new module must be placed here.
LAYERS: Final[dict[str, int]] = {
    **dict.fromkeys(
        (
            "",
            "codes",
            "wire",
            "frames",
            "opening",
            "v1",
            "identity",
            "envelope",
            "rotation",
            "limits",
            "timeouts",
            "meters",
            "addresses",
            "values",
            "config",
            "sources",
        ),
        0,
    ),
    **dict.fromkeys(("hub", "commands", "receipts", "presence", "lifetimes"), 1),
    **dict.fromkeys(
        (
            "database",
            "statements",
            "dialects",
            "sql",
            "sqlite",
            "postgresql",
            "threads",
            "store",
            "stream",
            "history",
            "users",
            "commits",
            "fanout",
            "catchup",
            "expiry",
            "questions",
            "delivery",
        ),
        2,
    ),
    **dict.fromkeys(("accounts", "administration", "watch", "logins", "attendance"), 2),
    **dict.fromkeys(("outbox", "reading", "connections", "lean", "websocket"), 2),
    **dict.fromkeys(("gate", "endpoint", "http", "web", "datadir", "reactor", "drain"), 2),
    **dict.fromkeys(("certificate", "reload", "systemd", "runner", "extensions", "memory"), 2),
    **dict.fromkeys(("blame", "logs", "security", "lag", "metrics", "monitoring", "analytics"), 2),
    **dict.fromkeys(("fasttls", "transport"), 2),
    "service": 3,
    "wiring": 4,
    "server": 4,
    "tap": 5,
}

#: The parts of `wschat` that have a rule of their own.
PARTS: Final = {"admin", "client", "migrations", "testing"}

#: For each layer those that it may import.
BELOW: Final = ({0}, {0}, {0, 1, 2}, {0, 1, 2}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4})

#: Layers 0 and 1 are pure: they know of no event loop.
PURE: Final = {0, 1}
EVENT_LOOPS: Final = {"twisted", "autobahn", "klein", "treq", "txaio", "asyncio", "uvloop"}


class Import(NamedTuple):
    """One module or name that a module imports."""

    line: int
    module: str
    name: str = ""


def group(module: str) -> str:
    """The rule that a module is under: `server`, or the name of a part of its own."""
    top, *inner = module.split(".")
    if top == "clients":
        return "programs"
    return inner[0] if inner and inner[0] in PARTS else "server"


def layer(module: str) -> int | None:
    """A server module's layer; None for one that nobody has placed."""
    return LAYERS.get(module.partition(".")[2])


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """What an `import from` names, with the leading dots resolved."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def imports(source: str, package: str, known: Iterable[str]) -> Iterator[Import]:
    """
    All that a module imports, wherever in it.

    `package` is the one it is in, and `known` are the modules there are: of
    `from wschat import x`, only they say whether x is a module or a name.
    `wschat.x`, used as an attribute, counts as well.
    """
    known = set(known)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found = (inner, "") if inner in known else (base, alias.name)
                yield Import(node.lineno, *found)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in known:
            yield Import(node.lineno, ast.unparse(node))


def _allowed(importer: str, imported: str) -> bool:
    """Whether a module may import another of ours."""
    source, target = group(importer), group(imported)
    if source == "testing":  # it has a server and clients, and nothing that runs has it
        parts = layer(imported) in {0, 1, 2, 3} or imported == "wschat.wiring"
        return target == "client" or (target == "server" and parts)
    if source == "programs":
        return target in ("client", "programs")
    if source == "client":
        return target == "client" or (target == "server" and layer(imported) == 0)
    if target != "server":
        return source == target and source in ("admin", "migrations")
    if source in ("admin", "migrations"):  # they work on what is stored, beside a server
        return layer(imported) in BELOW[2]
    below = layer(importer)
    return below is not None and layer(imported) in BELOW[below]


def violations(
    module: str, source: str, known: Iterable[str], *, is_package: bool = False
) -> list[str]:
    """What is wrong with a module's imports, one line each."""
    package = module if is_package else module.rpartition(".")[0]
    pure = group(module) == "server" and layer(module) in PURE
    found = []
    for line, imported, name in imports(source, package, known):
        top = imported.partition(".")[0]
        if top in ("wschat", "clients"):
            if not _allowed(module, imported):
                found.append(f"{module}:{line} may not import {imported}")
            if name.startswith("_") and not name.endswith("__"):
                found.append(f"{module}:{line} may not import {imported}'s own {name}")
        elif pure and top in EVENT_LOOPS:
            found.append(f"{module}:{line} is pure and may not import {imported}")
    return found


def cycle(edges: Mapping[str, set[str]]) -> list[str]:
    """The modules of an import cycle, if there is one."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def modules() -> dict[str, Path]:
    """All of ours, by dotted name."""
    found = {}
    for path in sorted([*ROOT.glob("wschat/**/*.py"), *ROOT.glob("clients/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def untested(sources: Iterable[Path], root: Path) -> list[str]:
    """Modules without a test file of their own; each with the one that is missing."""
    missing = []
    for path in sources:
        name = path.relative_to(root)
        own = Path("tests", *name.parts[1:-1], f"test_{name.name}")
        if not (root / own).is_file():
            missing.append(f"{name} has no {own}")
    return missing


class SourceTests(SynchronousTestCase):
    """The project as it is."""

    def setUp(self) -> None:
        self.modules = modules()

    def test_found(self) -> None:
        """The modules are found: a test that looks at nothing finds nothing wrong."""
        self.assertLessEqual({"wschat", "wschat.wire", "wschat.tap"}, set(self.modules))

    def test_every_module_is_placed(self) -> None:
        """Each module of the server is in the table, and the table has no module that is gone."""
        server = {name for name in self.modules if group(name) == "server"}
        self.assertEqual(server, {f"wschat.{name}".rstrip(".") for name in LAYERS})

    def test_directions(self) -> None:
        """No import runs the wrong way."""
        found = [
            violation
            for name, path in self.modules.items()
            for violation in violations(
                name,
                path.read_text("utf-8"),
                self.modules,
                is_package=path.name == "__init__.py",
            )
        ]
        if found:
            self.fail("\n".join(found))

    def test_no_cycles(self) -> None:
        """No module imports itself by way of others, in functions or for type checkers either."""
        edges: dict[str, set[str]] = {}
        for name, path in self.modules.items():
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            targets = imports(path.read_text("utf-8"), package, self.modules)
            edges[name] = {t.module for t in targets if t.module in self.modules} - {name}
        self.assertEqual(cycle(edges), [])

    def test_every_module_is_tested(self) -> None:
        """Each module has the test file of its name."""
        sources = [
            path
            for name, path in self.modules.items()
            if group(name) in ("server", "admin", "client", "testing")
            and path.name != "__init__.py"
        ]
        missing = untested(sources, ROOT)
        if missing:
            self.fail("\n".join(missing))


KNOWN: Final = {f"wschat.{name}".rstrip(".") for name in LAYERS} | {
    "wschat.admin",
    "wschat.admin.context",
    "wschat.client",
    "wschat.client.session",
    "wschat.migrations.env",
    "wschat.testing",
    "clients",
    "clients.message_bot",
}

#: Imports that are good, by the module that has them.
GOOD: Final = (
    ("wschat.wire", "import msgspec, datetime\nfrom __future__ import annotations"),
    ("wschat.identity", "from wschat import wire\nimport nacl.bindings"),
    ("wschat.commands", "import wschat\nfrom wschat import wire\nwschat.__version__"),
    ("wschat.commands", "from wschat import __version__"),
    (
        "wschat.web",
        "import wschat.hub\nfrom twisted.web import server\nfrom wschat.store import Store",
    ),
    ("wschat.service", "from wschat import hub, store\nfrom .limits import KeyedLimiter"),
    ("wschat.wiring", "from wschat.service import ChatService"),
    ("wschat.server", "from wschat.wiring import Parts"),
    ("wschat.tap", "from wschat.server import Server\nfrom wschat import sources"),
    ("wschat.client.session", "from wschat import wire\nfrom wschat.client import session"),
    ("wschat.client.session", "from . import session\nfrom ..wire import Message\nimport twisted"),
    ("wschat.migrations.env", "from wschat.database import metadata"),
    ("wschat.admin.users", "from wschat.admin.context import Context\nfrom wschat import store"),
    ("wschat.testing", "from wschat import service\nfrom wschat.client import session"),
    ("wschat.testing", "from wschat.wiring import Parts"),
    ("clients.message_bot", "from wschat.client.session import Session\nfrom wschat import client"),
)

#: Imports that run the wrong way: the module, its source, and the module that it may not import.
BAD: Final = (
    ("wschat.wire", "import twisted", "twisted"),
    ("wschat.wire", "from twisted.internet.defer import Deferred", "twisted.internet.defer"),
    ("wschat.limits", "def f():\n    import autobahn.websocket", "autobahn.websocket"),
    ("wschat.limits", "if TYPE_CHECKING:\n    from wschat.hub import Hub", "wschat.hub"),
    ("wschat.hub", "from twisted.python import failure", "twisted.python"),
    ("wschat.hub", "from wschat import store", "wschat.store"),
    ("wschat.hub", "from wschat.commands import Commands", "wschat.commands"),
    ("wschat.commands", "import wschat\nwschat.store.Store", "wschat.store"),
    ("wschat.web", "from . import service", "wschat.service"),
    ("wschat.web", "from .service import ChatService", "wschat.service"),
    ("wschat.store", "import wschat.tap as other", "wschat.tap"),
    ("wschat.store", "from wschat.client.session import Session", "wschat.client.session"),
    ("wschat.service", "from wschat import tap", "wschat.tap"),
    ("wschat.service", "from wschat.server import Server", "wschat.server"),
    ("wschat.server", "from wschat import tap", "wschat.tap"),
    ("wschat.tap", "from wschat import client", "wschat.client"),
    ("wschat.tap", "from clients import message_bot", "clients.message_bot"),
    ("wschat.tap", "import wschat.nowhere_placed", "wschat.nowhere_placed"),
    ("wschat.client.session", "from wschat.hub import Hub", "wschat.hub"),
    ("wschat.client.session", "from .. import store", "wschat.store"),
    ("wschat.client.session", "import clients.message_bot", "clients.message_bot"),
    ("wschat.migrations.env", "from wschat import service", "wschat.service"),
    ("wschat.testing", "from wschat import tap", "wschat.tap"),
    ("wschat.testing", "from wschat.server import Server", "wschat.server"),
    ("wschat.tap", "from wschat import testing", "wschat.testing"),
    ("wschat.client.session", "from wschat.testing import World", "wschat.testing"),
    ("clients.message_bot", "from wschat import testing", "wschat.testing"),
    ("clients.message_bot", "from wschat import wire", "wschat.wire"),
    ("clients.message_bot", "import wschat", "wschat"),
    ("wschat.web", "from wschat.hub import _secret", "wschat.hub's own _secret"),
    ("wschat.unplaced", "from wschat import wire", "wschat.wire"),
)


class CheckerTests(SynchronousTestCase):
    """The checker itself: it finds what is wrong, and only that."""

    def test_good(self) -> None:
        """Imports that run the right way are none of its business."""
        found = [violation for case in GOOD for violation in violations(*case, KNOWN)]
        self.assertEqual(found, [])

    def test_bad(self) -> None:
        """Each import that runs the wrong way is named, with the module and the line."""
        for module, source, imported in BAD:
            line = len(source.splitlines())
            (found,) = violations(module, source, KNOWN)
            self.assertTrue(found.startswith(f"{module}:{line} "), found)
            self.assertTrue(found.endswith(f" import {imported}"), found)

    def test_package(self) -> None:
        """In a package's own file one dot is the package itself."""
        source = "from . import session\nfrom .. import tap"
        found = violations("wschat.client", source, KNOWN, is_package=True)
        self.assertEqual(found, ["wschat.client:2 may not import wschat.tap"])

    def test_cycle(self) -> None:
        """A cycle is found, however long, and none where there is none."""
        self.assertEqual(cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}), [])
        found = cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
        self.assertEqual(set(found), {"a", "b", "c"})

    def test_untested(self) -> None:
        """All the missing test files are named, and those that are there are not."""
        root = Path(self.mktemp())
        (root / "tests" / "client").mkdir(parents=True)
        (root / "tests" / "test_wire.py").touch()
        names = ("wschat/wire.py", "wschat/hub.py", "wschat/client/tls.py")
        self.assertEqual(
            untested([root / name for name in names], root),
            [
                "wschat/hub.py has no tests/test_hub.py",
                "wschat/client/tls.py has no tests/client/test_tls.py",
            ],
        )
