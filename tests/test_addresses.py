"""Addresses, networks, and what proxies say of whom they heard."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat import addresses
from wschat.addresses import LOOPBACK, Networks


class AddressTests(SynchronousTestCase):
    """Addresses as they are compared and counted."""

    def test_normal(self) -> None:
        """One address has one spelling; what is none stays what it is."""
        spellings = {
            "203.0.113.5": "203.0.113.5",
            "::ffff:203.0.113.5": "203.0.113.5",
            "2001:DB8:0:0::1": "2001:db8::1",
            "fe80::1%eth0": "fe80::1",
            "": "",
            "nonsense": "nonsense",
            "1" * 1000: "1" * 1000,
        }
        self.assertEqual({text: addresses.normal(text) for text in spellings}, spellings)

    def test_one_host(self) -> None:
        """A host of IPv6 has a whole network of addresses to choose from."""
        self.assertEqual(addresses.one_host("203.0.113.5"), "203.0.113.5")
        self.assertEqual(addresses.one_host("2001:db8::1"), addresses.one_host("2001:db8::ffff:1"))
        self.assertNotEqual(addresses.one_host("2001:db8::1"), addresses.one_host("2001:db8:1::1"))

    def test_counted(self) -> None:
        """This host and Unix sockets are not counted; everybody else is, by host."""
        for free in ("127.0.0.1", "127.8.9.10", "::1", ""):
            self.assertIsNone(addresses.counted(free))
        self.assertEqual(addresses.counted("203.0.113.5"), "203.0.113.5")
        self.assertEqual(addresses.counted("2001:db8::5"), "2001:db8::/64")


class NetworksTests(SynchronousTestCase):
    """Which addresses are in some networks."""

    def test_contains(self) -> None:
        """Addresses of each kind are in theirs, and text that is none is in nothing."""
        networks = Networks.parse("10.0.0.0/8, 2001:db8::/32 ,192.0.2.7")
        for inside in ("10.1.2.3", "2001:db8:1::1", "192.0.2.7"):
            self.assertIn(inside, networks)
        for outside in ("11.0.0.1", "2001:db9::1", "192.0.2.8", "", "x", "10.1.2.3.4"):
            self.assertNotIn(outside, networks)

    def test_unix(self) -> None:
        """A peer without an address is in none, unless that is said."""
        self.assertIn("", Networks.parse("unix"))
        self.assertNotIn("127.0.0.1", Networks.parse("unix"))

    def test_nothing(self) -> None:
        """Without any, nobody is in it."""
        for text in ("", " , "):
            self.assertFalse(Networks.parse(text))
        self.assertTrue(Networks.parse("unix"))
        self.assertTrue(LOOPBACK)

    def test_everybody(self) -> None:
        """All addresses of a kind are everybody's."""
        for text, everybody in (
            ("0.0.0.0/0", True),
            ("10.0.0.0/8,::/0", True),
            ("10.0.0.0/8,unix", False),
            ("", False),
        ):
            self.assertEqual(Networks.parse(text).everybody, everybody, text)

    def test_equal(self) -> None:
        """Two are equal that have the same, however it was written."""
        self.assertEqual(Networks.parse("10.0.0.0/8,unix"), Networks.parse("unix,10.0.0.0/8"))
        self.assertEqual(hash(Networks.parse("::1")), hash(Networks.parse("::1")))
        self.assertNotEqual(Networks.parse("unix"), Networks.parse(""))
        self.assertNotEqual(Networks.parse("unix"), "unix")

    def test_wrong(self) -> None:
        """What is no network is an error, and so is one with bits beyond its length."""
        for text in ("x", "10.0.0.0/33", "10.0.0.1/8", "localhost", "1.2.3.4:80"):
            self.assertRaises(ValueError, Networks.parse, text)


class ClientTests(SynchronousTestCase):
    """Whose request it is, behind proxies and without."""

    trusted = Networks.parse("10.0.0.0/8,unix")

    def client(self, peer: str, *lines: str) -> str:
        return addresses.client(peer, lines, self.trusted)

    def test_no_proxy(self) -> None:
        """What somebody says of themselves does not count."""
        self.assertEqual(self.client("203.0.113.5", "127.0.0.1"), "203.0.113.5")
        self.assertEqual(self.client("::ffff:203.0.113.5"), "203.0.113.5")

    def test_proxy(self) -> None:
        """A trusted proxy says whom it heard."""
        for peer in ("10.0.0.1", "::ffff:10.0.0.1", ""):
            self.assertEqual(self.client(peer, "203.0.113.5"), "203.0.113.5")

    def test_what_the_client_had_written(self) -> None:
        """Whatever came before what a trusted proxy added does not count."""
        self.assertEqual(self.client("10.0.0.1", "127.0.0.1, 203.0.113.5"), "203.0.113.5")
        self.assertEqual(self.client("10.0.0.1", "127.0.0.1", "203.0.113.5"), "203.0.113.5")

    def test_several_proxies(self) -> None:
        """They are followed as far as they are trusted."""
        self.assertEqual(self.client("10.0.0.1", "192.0.2.1, 203.0.113.5, 10.0.0.2"), "203.0.113.5")
        self.assertEqual(self.client("10.0.0.1", "10.0.0.3,10.0.0.2"), "10.0.0.3")

    def test_ports(self) -> None:
        """Some proxies add ports."""
        for hop in ("203.0.113.5:5000", "[2001:db8::5]:5000", "[2001:db8::5]", "2001:db8::5"):
            expected = "2001:db8::5" if "db8" in hop else "203.0.113.5"
            self.assertEqual(self.client("10.0.0.1", hop), expected)

    def test_nonsense(self) -> None:
        """What is no address is not believed: then it is whoever said so."""
        for line in ("", "unknown", "_hidden", "203.0.113.5, x", "1.2.3.4:x", "10.0.0.300:1"):
            self.assertEqual(self.client("10.0.0.1", line), "10.0.0.1")

    @given(st.text(max_size=40), st.lists(st.text(max_size=60), max_size=4))
    def test_anything(self, peer: str, lines: list[str]) -> None:
        """Whatever is written, the answer is the peer, or an address."""
        found = addresses.client(peer, lines, Networks.parse("0.0.0.0/0,::/0,unix"))
        if found != addresses.normal(peer):
            self.assertEqual(str(ipaddress.ip_address(found)), found)
