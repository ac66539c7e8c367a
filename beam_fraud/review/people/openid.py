"""Log-in at a provider: the authorisation code flow of OpenID Connect, with PKCE.

https://openid.net/specs/openid-connect-core-1_0.html, RFC 7636 (PKCE), RFC 9207 (`iss`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from urllib.parse import quote_plus, urlencode

import msgspec
import requests
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from beam_fraud.errors import Code, FraudError
from beam_fraud.review.people.openid_settings import OpenIdSettings, claim_of, is_safe
from beam_fraud.wording import printable, reason_of

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
#: Signatures that are accepted: none by a secret, which whoever verifies could make as well.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
#: Seconds that the clocks may differ, and that a person may take for the log-in.
_LEEWAY, LONGEST = 60, 600
#: Seconds for an answer of the provider, and its most bytes.
_PATIENCE, _MOST = 10.0, 1 << 20
#: Seconds after which the provider's description and keys are read again; the least ones between
#: two reads because of an unknown key, and between two because the provider was away.
_KEPT, _APART, _AWAY = 3600.0, 30.0, 5.0


@dataclass(frozen=True)
class Flow:
    """A log-in that began; the browser keeps it until it comes back."""

    #: What the provider must bring back in the address and in the token, so that both are of this
    #: log-in.
    state: str
    nonce: str
    #: What proves to the provider that the code was asked for by this browser (PKCE).
    verifier: str = field(repr=False)
    #: Page to go to afterwards.
    following: str
    #: Unix time.
    begun: int

    @classmethod
    def begin(cls, following: str) -> Flow:
        """Return a new log-in."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, following, int(time.time()))

    def text(self) -> str:
        """Return it for a cookie."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str, state: str) -> Flow | None:
        """Return the log-in of a cookie; None if it is none, too old, or of another `state`."""
        try:
            padded = text.encode() + b"=" * (-len(text) % 4)
            flow = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=cls)
        except (ValueError, msgspec.MsgspecError):
            return None
        age = time.time() - flow.begun
        same = hmac.compare_digest(flow.state.encode(), state.encode("utf-8", "surrogatepass"))
        return flow if same and flow.state and -_LEEWAY < age < LONGEST else None


@dataclass(frozen=True)
class Identity:
    """Who logged in at the provider."""

    #: The person's name at the provider, which never changes.
    subject: str
    #: All claims, of the token or of the provider's page of the person.
    claims: Mapping[str, Any]
    #: SHA-256 of the nonce, which no other log-in may use, and until when one could.
    nonce_hash: str
    expires: datetime
    #: Page to go to.
    following: str


class Provider:
    """A provider of OpenID Connect; its description and keys are read on demand, and kept."""

    def __init__(self, settings: OpenIdSettings) -> None:
        """Prepare it; nothing is requested.

        Args:
          settings: where it is, and what its claims mean.
        """
        self.settings = settings
        self._lock = threading.Lock()
        self._described: _Kept[Mapping[str, Any]] | None = None
        self._failed: _Kept[FraudError] | None = None
        self._keys: _Kept[KeySet] | None = None

    def begin(self, following: str) -> tuple[str, str]:
        """Begin a log-in.

        Args:
          following: page to go to afterwards.

        Returns:
          Address of the provider's page, and what the browser keeps in a cookie meanwhile.

        Raises:
          FraudError: the provider does not answer.
        """
        flow = Flow.begin(following)
        digest = hashlib.sha256(flow.verifier.encode()).digest()
        fields = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self.settings.back,
            "scope": " ".join(self.settings.scopes),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        return _with_query(self._endpoint("authorization_endpoint"), fields), flow.text()

    def end_address(self) -> str | None:
        """Return the address of the provider's page of log-out.

        None if it has none, or if nobody has logged in by it since this process began: no page
        waits for the provider.
        """
        kept = self._described
        address = None if kept is None else kept.value.get("end_session_endpoint")
        if not isinstance(address, str) or not is_safe(address):
            return None
        fields = {
            "client_id": self.settings.client_id,
            "post_logout_redirect_uri": f"{self.settings.url}/login",
        }
        return _with_query(address, fields)

    def identity(self, cookie: str, answer: Mapping[str, str]) -> Identity:
        """Return who comes back from the provider.

        Args:
          cookie: what the browser kept.
          answer: fields of the address that the provider led it back to.

        Raises:
          FraudError: the browser began no such log-in, or too long ago; the provider does not
            answer, or refuses, or its token is invalid.
        """
        flow = Flow.parse(cookie, answer.get("state", ""))
        if flow is None:
            raise _refused("it began in another browser or too long ago; log in again")
        description = self._description()
        names = description.get("authorization_response_iss_parameter_supported") is True
        if (names or "iss" in answer) and answer.get("iss") != self.settings.issuer:
            raise _refused("the answer is of another issuer")
        if "code" not in answer:
            raise _refused(printable(answer.get("error", "the answer has no code"), 80))
        tokens = self._tokens(flow, answer["code"])
        token = tokens.get("id_token")
        if not isinstance(token, str):
            raise _refused("the answer has no id token")
        claims = self._verified(token, flow.nonce)
        subject = str(claims["sub"])
        # From then on its token is too old.
        expires = datetime.now(UTC) + timedelta(seconds=LONGEST + 2 * _LEEWAY)
        wanted = self.settings.role_claim, self.settings.name_claim
        if any(claim_of(claims, name) is None for name in wanted):
            claims = {**self._about(tokens.get("access_token"), subject), **claims}
        nonce_hash = hashlib.sha256(flow.nonce.encode()).hexdigest()
        return Identity(subject, claims, nonce_hash, expires, flow.following)

    def check(self) -> None:
        """Warn if the provider does not answer now, or not as it should."""
        try:
            self._endpoint("authorization_endpoint")
            self._endpoint("token_endpoint")
            self._endpoint("jwks_uri")
        except FraudError as error:
            _LOG.warning("%s; nobody can log in with it until it answers [%s]", error, error.code)

    def _tokens(self, flow: Flow, code: str) -> Mapping[str, Any]:
        """Exchange a code for tokens."""
        settings, secret = self.settings, self.settings.secret
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": settings.back,
            "code_verifier": flow.verifier,
        }
        ways = self._description().get("token_endpoint_auth_methods_supported")
        basic = not isinstance(ways, list) or "client_secret_basic" in ways
        auth = None
        if secret is not None and basic:
            # RFC 6749, 2.3.1: both are encoded as in a form first.
            auth = quote_plus(settings.client_id), quote_plus(secret)
        else:
            fields["client_id"] = settings.client_id
            if secret is not None:
                fields["client_secret"] = secret
        address, refusal = self._endpoint("token_endpoint"), Code.PROVIDER_REFUSED
        return self._answer("POST", address, data=fields, auth=auth, code=refusal)

    def _about(self, access_token: object, subject: str) -> Mapping[str, Any]:
        """Return the claims of the provider's page of a person; none if it has no such page."""
        address = self._description().get("userinfo_endpoint")
        if not (isinstance(address, str) and is_safe(address) and isinstance(access_token, str)):
            return {}
        claims = self._answer("GET", address, headers={"authorization": f"Bearer {access_token}"})
        if claims.get("sub") != subject:
            raise _refused("its claims are of another person")
        return claims

    def _verified(self, token: str, nonce: str) -> Mapping[str, Any]:
        """Return the claims of a token, checked."""
        try:
            try:
                decoded = jwt.decode(token, self._key_set(), algorithms=_ALGORITHMS)
            except (JoseError, ValueError):
                # The provider may have another key by now.
                decoded = jwt.decode(token, self._key_set(fresh=True), algorithms=_ALGORITHMS)
            claims = decoded.claims
            jwt.JWTClaimsRegistry(
                leeway=_LEEWAY,
                iss={"essential": True, "value": self.settings.issuer},
                sub={"essential": True},
                aud={"essential": True, "value": self.settings.client_id},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True},
            ).validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            # Its text may hold what the token says.
            name = getattr(error, "claim", None) or getattr(error, "error", type(error).__name__)
            raise _refused(f"its id token is not valid ({printable(str(name))})") from None
        if time.time() - claims["iat"] > LONGEST + _LEEWAY:
            raise _refused("its id token was made too long ago")
        if claims["nonce"] != nonce:
            raise _refused("its id token is of another log-in")
        audience, authorised = claims["aud"], claims.get("azp")
        if isinstance(audience, list) and len(audience) > 1 and authorised is None:
            raise _refused("its id token is for several clients, and does not say for whom")
        if authorised not in (None, self.settings.client_id):
            raise _refused("its id token is for another client")
        if not 0 < len(claims["sub"]) <= 255:
            raise _refused("its id token names nobody")
        return claims

    def _description(self) -> Mapping[str, Any]:
        with self._lock:
            if self._described is None or self._described.age > _KEPT:
                self._described = _Kept(self._described_anew())
            return self._described.value

    def _described_anew(self) -> Mapping[str, Any]:
        if self._failed is not None and self._failed.age < _AWAY:
            raise self._failed.value
        address = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            description = self._answer("GET", address)
            if (named := description.get("issuer")) != self.settings.issuer:
                raise FraudError(
                    f"[openid] issuer {self.settings.issuer}: it names itself "
                    f"{printable(str(named))}; give that",
                    Code.PROVIDER_SILENT,
                )
        except FraudError as error:
            # Who waits for the next answer waits for none.
            self._failed = _Kept(error)
            raise
        return description

    def _endpoint(self, name: str) -> str:
        address = self._description().get(name)
        if not isinstance(address, str) or not is_safe(address):
            raise FraudError(
                f"[openid] issuer {self.settings.issuer}: its description has no usable {name}",
                Code.PROVIDER_SILENT,
            )
        return address

    def _key_set(self, *, fresh: bool = False) -> KeySet:
        address = self._endpoint("jwks_uri")
        with self._lock:
            kept = self._keys
            if kept is None or kept.age > (_APART if fresh else _KEPT):
                self._keys = kept = _Kept(_public_keys(self._answer("GET", address)))
            return kept.value

    def _answer(
        self, method: str, address: str, *, code: Code = Code.PROVIDER_SILENT, **request: Any
    ) -> Mapping[str, Any]:
        """Return the object that the provider answers with."""
        try:
            with requests.request(
                method,
                address,
                timeout=_PATIENCE,
                # Where it leads may not be the provider's.
                allow_redirects=False,
                stream=True,
                **request,
            ) as response:
                status, body = response.status_code, response.raw.read(_MOST, decode_content=True)
            if 400 <= status < 500 and code is Code.PROVIDER_REFUSED:
                raise _refused(f"it answers {status}")
            if status != 200:
                raise FraudError(
                    f"[openid] {address}: answers {status} in place of 200", Code.PROVIDER_SILENT
                )
            answer = msgspec.json.decode(body)
        except (requests.RequestException, OSError) as error:
            raise FraudError(
                f"[openid] {address}: does not answer ({reason_of(error)})", Code.PROVIDER_SILENT
            ) from None
        except msgspec.MsgspecError:
            answer = None
        if not isinstance(answer, dict):
            raise FraudError(f"[openid] {address}: answers no JSON object", Code.PROVIDER_SILENT)
        return answer


class _Kept(Generic[_T]):
    """An answer of the provider, and its time."""

    def __init__(self, value: _T) -> None:
        self.value, self._since = value, time.monotonic()

    @property
    def age(self) -> float:
        """Return seconds."""
        return time.monotonic() - self._since


def _public_keys(answer: Mapping[str, Any]) -> KeySet:
    """Return the keys that signatures may be of; others of the set are left out."""
    listed = answer.get("keys")
    keys = []
    for one in listed if isinstance(listed, list) else []:
        # A secret would be known to whoever reads the set.
        if isinstance(one, dict) and one.get("kty") != "oct" and one.get("use", "sig") == "sig":
            try:
                keys += KeySet.import_key_set({"keys": [one]}).keys
            except (JoseError, ValueError, TypeError, KeyError):
                continue
    return KeySet(keys)


def _with_query(address: str, fields: Mapping[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(fields)}"


def _refused(why: str) -> FraudError:
    return FraudError(f"The log-in at the provider failed: {why}.", Code.PROVIDER_REFUSED)
