"""What tests of HTTP share: requests to a server in memory, and how answers look."""

from __future__ import annotations

from typing import Any

from tests.support import Response, ServerTests
from wschat.identity import PrivateKey


class WebTests(ServerTests):
    """Tests that ask a server, where nobody is registered yet."""

    def get(self, path: str, **headers: Any) -> Response:
        return self.server.request("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: Any) -> Response:
        return self.server.request("POST", path, body, **headers)

    def check(self, response: Response, status: int) -> Response:
        """It has that status, and anything but a success is one readable line."""
        self.assertEqual(response.status, status, response)
        if status >= 400:
            self.assertEqual(response.headers["content-type"], "text/plain; charset=utf-8")
            self.assertRegex(response.text, r"\A[^\n<>]+\n\Z")
        return response

    def register(self, user_id: str, **fields: Any) -> Response:
        key = self.server.keys[user_id] = PrivateKey.generate()
        return self.post("/auth/register", registration(user_id, key, **fields))


def registration(user_id: str, key: PrivateKey, **fields: Any) -> dict[str, Any]:
    return {"user_id": user_id, "username": "", "public_key": key.public_key, **fields}
