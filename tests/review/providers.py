"""Providers of OpenID Connect on this machine: a certified one, and one that lies."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import RSAKey

from deploy.ports import free_port
from tests.requirements import need, need_openid_provider

CLIENT, SECRET = "pages", "a secret/of+the pages%"
#: Values of the role claim.
ROLES = {"fraud": "analyst", "fraud-leads": "lead"}


@contextmanager
def certified_provider(pages: str, people: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Run panva/node-oidc-provider, and yield its address.

    Args:
      pages: address of the pages.
      people: log-in to claims.
    """
    port = free_port()
    command = [need("node"), "provider.mjs", str(port), pages, SECRET, json.dumps(people)]
    process = subprocess.Popen(
        command,
        cwd=need_openid_provider(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("listening" in line for line in process.stdout)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@cache
def key(number: int) -> RSAKey:
    """Return a key; making one takes a while."""
    return RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"}, private=True)


def signed(claims: Mapping[str, object]) -> str:
    """Return a token as a provider signs it."""
    return jwt.encode({"alg": "RS256", "kid": "1"}, dict(claims), key(0))


def unsigned(claims: Mapping[str, object], algorithm: str = "none") -> str:
    """Return a token without a signature."""
    parts = {"alg": algorithm, "kid": "1"}, dict(claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(part.rstrip("=") for part in encoded), ""])


@dataclass
class Liar:
    """A provider whose answers a test chooses. It takes every code, as often as it comes."""

    port: int = field(default_factory=free_port)
    #: Changes the claims of a token.
    changed: Callable[[dict[str, object]], None] = lambda claims: None
    #: Makes the token of its claims.
    token: Callable[[Mapping[str, object]], str | None] = signed
    #: Claims of the page of the person.
    person: dict[str, object] = field(default_factory=dict)
    #: Nonce of the log-in; the pages sent it to the provider.
    nonce: str = ""
    #: Status of the answer with the token.
    status: int = 200
    #: What the pages sent for a code.
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def description(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/me",
            "jwks_uri": f"{self.issuer}/jwks",
        }

    def claims(self) -> dict[str, object]:
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": "subject-1",
            "aud": CLIENT,
            "exp": now + 300,
            "iat": now,
            "nonce": self.nonce,
            "preferred_username": "ann",
            "groups": ["sales", "fraud"],
        }
        self.changed(claims)
        return claims

    def answer(self, path: str) -> tuple[int, Any]:
        if path == "/.well-known/openid-configuration":
            return 200, self.description()
        if path == "/jwks":
            # Some keys are of no use, and must do no harm.
            secret = {"kty": "oct", "kid": "1", "k": "c2VjcmV0"}
            odd = {"kty": "RSA", "kid": "2"}
            return 200, {"keys": [secret, odd, key(0).as_dict(private=False)]}
        if path == "/token":
            tokens = {"access_token": "a", "id_token": self.token(self.claims())}
            return self.status, {name: value for name, value in tokens.items() if value}
        if path == "/me":
            return 200, self.person
        return 404, {}

    def __enter__(self) -> Self:
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, answer = liar.answer(self.path)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                liar.forms.append(parse_qs(self.rfile.read(size).decode()))
                self.do_GET()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
