"""Tests of `wschat.admin.backup`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from tests.admin.support import AdminTests
from tests.stores import named
from tests.support import NOW, MemoryStore
from wschat.datadir import DataDirectory, certificate_files


class BackupTests(AdminTests):
    """`wschat backup` and `wschat restore`."""

    def setUp(self) -> None:
        super().setUp()
        self.kept = self.store("alice", "bob")
        self.said("a1")
        directory = DataDirectory(self.data_dir)
        self.secret = directory.jwt_secret()
        self.target = Path(self.mktemp()).absolute()

    def said(self, client_id: str) -> int:
        """Something is said to bob; its id."""
        appended = self.successResultOf(self.kept.stream.append([named(client_id)], {}, (), NOW))
        return appended.ids[0]

    def messages(self, path: Path) -> list[str]:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT client_id FROM messages ORDER BY id").fetchall()
        return [row[0] for row in rows]

    def modes(self, directory: Path) -> dict[str, int]:
        return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}

    def stop(self) -> None:
        """What uses the database lets go of it."""
        self.kept.engine.dispose()

    def test_backup(self) -> None:
        """The database, with what is only in its log yet, and what else makes the server."""
        certificate, _ = certificate_files(self.data_dir)
        certificate.write_text("a certificate")
        with DataDirectory(self.data_dir).hold():  # a server runs
            self.does("backup", str(self.target))
        self.assertEqual(self.messages(self.target / "wschat.sqlite3"), ["a1"])
        self.assertEqual((self.target / "jwt-secret").read_text().strip(), self.secret)
        expected = {"wschat.sqlite3": 0o600, "jwt-secret": 0o600, "certificate.pem": 0o644}
        self.assertEqual(self.modes(self.target), expected)
        self.assertEqual(self.target.stat().st_mode & 0o777, 0o700)

    def test_while_somebody_writes(self) -> None:
        """A writer neither waits for it nor is in it half."""
        with self.kept.engine.execution_options(writes=True).begin() as connection:
            connection.execute(sa.text("UPDATE messages SET content = 'x'"))
            self.does("backup", str(self.target))
        with closing(sqlite3.connect(self.target / "wschat.sqlite3")) as copy:
            self.assertEqual(copy.execute("SELECT content FROM messages").fetchall(), [("hi",)])

    def test_refused(self) -> None:
        """Nothing is written over, nothing made of nothing, and nothing left half done."""
        self.target.mkdir()
        self.assertIn("already", self.fails("backup", str(self.target)))
        self.assertEqual(list(self.target.iterdir()), [])
        self.assertIn("no database", self.fails("--database=/nowhere/x", "backup", "/nowhere/y"))
        broken = Path(self.mktemp()).absolute()
        broken.write_bytes(b"SQLite format 3\0" + b"junk" * 1000)
        self.fails(f"--database={broken}", "backup", str(self.target / "new"))
        self.assertEqual(list(self.target.iterdir()), [])

    def test_postgresql(self) -> None:
        """PostgreSQL has tools of its own, which are named, without a password."""
        url = "--database=postgresql+psycopg://me:quokka@db/chat"
        for command in ("backup", "restore"):
            line = self.fails(url, command, str(self.target))
            self.assertIn("pg_dump", line)
            self.assertIn("pg_restore", line)
            self.assertNotIn("quokka", line)

    def test_restored(self) -> None:
        """All is as it was; what came since is gone, but kept beside it, and no id comes again."""
        self.does("backup", str(self.target))
        last = self.said("a2")
        self.stop()
        (self.data_dir / "jwt-secret").write_text("x" * 64)
        self.assertIn("--replace", self.fails("restore", str(self.target)))
        lines = self.does("restore", str(self.target), "--replace")
        self.assertEqual(self.messages(self.data_dir / "wschat.sqlite3"), ["a1"])
        self.assertEqual(DataDirectory(self.data_dir).jwt_secret(), self.secret)
        aside = Path(lines[1].partition(":")[0])
        self.assertEqual(self.messages(aside), ["a1", "a2"])
        self.kept = MemoryStore(self.engine())
        again = self.said("a3")
        self.assertGreater(again, last + 1000)
        page = self.successResultOf(self.kept.stream.page("bob", last))
        self.assertEqual([message.client_id for message in page.messages], ["a3"])
        start = self.successResultOf(self.kept.stream.start(("bob", "phone"), last))
        self.assertTrue(start.complete)

    def test_to_another_place(self) -> None:
        """An empty data directory gets a server; so does one that is not there."""
        self.does("backup", str(self.target))
        self.data_dir = Path(self.mktemp()).absolute()
        self.does(f"--data-dir={self.data_dir}", "restore", str(self.target))
        self.assertEqual(self.messages(self.data_dir / "wschat.sqlite3"), ["a1"])
        self.assertEqual(self.data_dir.stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.modes(self.data_dir)["wschat.sqlite3"], 0o600)

    def test_not_restored(self) -> None:
        """Nothing under a server that runs, of what is no backup, or of a damaged one."""
        self.does("backup", str(self.target))
        with DataDirectory(self.data_dir).hold():
            self.assertIn("stop it", self.fails("restore", str(self.target), "--replace"))
        self.assertIn("no backup", self.fails("restore", str(self.data_dir.parent), "--replace"))
        path = self.target / "wschat.sqlite3"
        path.write_bytes(path.read_bytes()[:5000])
        self.fails("restore", str(self.target), "--replace")
        self.assertEqual(self.messages(self.data_dir / "wschat.sqlite3"), ["a1"])
        left = {p.name for p in self.data_dir.iterdir() if not p.name.endswith(("-wal", "-shm"))}
        self.assertEqual(left, {"wschat.sqlite3", "jwt-secret", "lock"})

    def test_no_database_of_this_version(self) -> None:
        """Nothing is replaced by an empty file, another program's database, or a newer one."""
        self.does("backup", str(self.target))
        path = self.target / "wschat.sqlite3"
        with closing(sqlite3.connect(path)) as newer, newer:
            newer.execute("UPDATE alembic_version SET version_num = '9999'")
        self.assertIn("9999", self.fails("restore", str(self.target), "--replace"))
        path.write_bytes(b"")
        self.assertIn("no messages", self.fails("restore", str(self.target), "--replace"))
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("CREATE TABLE messages (id INTEGER)")
        self.assertIn("no messages", self.fails("restore", str(self.target), "--replace"))
        self.assertEqual(self.messages(self.data_dir / "wschat.sqlite3"), ["a1"])

    def test_onto_itself(self) -> None:
        """The data directory is no backup of itself."""
        self.stop()
        self.assertIn("itself", self.fails("restore", str(self.data_dir), "--replace"))
        self.assertEqual([p.name for p in self.data_dir.glob("*.replaced-*")], [])

    def test_damaged_is_replaced(self) -> None:
        """A database that cannot even be read is put aside as well."""
        self.does("backup", str(self.target))
        self.stop()
        (self.data_dir / "wschat.sqlite3").write_bytes(b"junk" * 1000)
        self.does("restore", str(self.target), "--replace")
        self.assertEqual(self.messages(self.data_dir / "wschat.sqlite3"), ["a1"])
