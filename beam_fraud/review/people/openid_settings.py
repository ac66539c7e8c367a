"""The provider of OpenID Connect that people log in with: the table `[openid]` of the settings.

[openid]
issuer = "https://login.example.org"
client_id = "beam-fraud"
url = "https://review.example.org"

[openid.roles]
fraud-team = "analyst"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from beam_fraud.errors import Code, UsageError
from beam_fraud.review.people.roles import Role
from beam_fraud.schema.text_file import Table, must_be, read_secret, read_table

#: Variable of the secret that this client has with the provider.
SECRET_VARIABLE = "BEAM_FRAUD_OPENID_SECRET"
#: Path of the page that the provider leads back to.
BACK = "/login/openid/back"
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class OpenIdSettings:
    """A provider, and what its claims mean here."""

    #: Its address, by which it names itself in tokens.
    issuer: str
    #: How it knows the pages.
    client_id: str
    #: Secret of the pages at the provider; None for a public client, which has none.
    secret: str | None = field(repr=False)
    #: Address of the pages, as browsers have it.
    url: str
    #: Value of the role claim to the role.
    roles: Mapping[str, Role]
    #: Word for the provider on the page of log-in.
    title: str = "single sign-on"
    scopes: tuple[str, ...] = ("openid", "profile")
    #: Claim of the name of a new user, and the claim with the role; dots lead into objects.
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    #: Whether a user who was there before is the person of the same name.
    link_by_name: bool = False

    @property
    def back(self) -> str:
        """Address that the provider leads back to."""
        return f"{self.url}{BACK}"

    def role_of(self, claims: Mapping[str, Any]) -> Role | None:
        """Return the highest role that the claims give; None for none.

        Example:
          >>> roles = {"fraud": Role.ANALYST, "heads": Role.LEAD}
          >>> settings = OpenIdSettings("https://a.example", "b", None, "https://c.example", roles)
          >>> settings.role_of({"groups": ["fraud", "heads", "sales"]}).word
          'lead'
        """
        given = claim_of(claims, self.role_claim)
        names = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        found = [self.roles[name] for name in names if isinstance(name, str) and name in self.roles]
        return max(found, default=None)


def claim_of(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim; None if it is not there.

    Example:
      >>> claim_of({"realm_access": {"roles": ["lead"]}}, "realm_access.roles")
      ['lead']
    """
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def is_safe(url: str) -> bool:
    """Return whether what goes to an address cannot be read or changed on its way."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOCAL))


class _Keys(Table):
    code = Code.REVIEW_SETTINGS


_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class _OpenId(_Keys):
    issuer: Annotated[_Text, must_be("the provider's address")]
    client_id: Annotated[_Text, must_be("how the provider knows the pages")]
    url: Annotated[_Text, must_be("the address of the pages, as browsers have it")]
    roles: Annotated[
        dict[str, Literal["read-only", "analyst", "lead", "admin"]],
        must_be("written as [openid.roles], each value of the role claim with its role"),
    ]
    client_secret_file: Annotated[str | None, must_be("the name of a file")] = None
    client_secret_env: Annotated[str | None, must_be("the name of a variable")] = None
    title: Annotated[_Text, must_be("a word for the provider")] = "single sign-on"
    scopes: Annotated[tuple[str, ...], must_be("a list of scopes")] = ("openid", "profile")
    name_claim: Annotated[_Text, must_be("the name of a claim")] = "preferred_username"
    role_claim: Annotated[_Text, must_be("the name of a claim")] = "groups"
    link_by_name: Annotated[bool, must_be("true or false")] = False


def read_openid(table: object, where: str, directory: Path) -> OpenIdSettings:
    """Read the table of a provider.

    Args:
      table: as it was parsed.
      where: the table in its file, for messages.
      directory: of the file, to which that of the secret is relative.

    Raises:
      UsageError: the table is invalid.
      FraudError: the secret cannot be read.
    """
    read = read_table(table, _OpenId, where)
    for name in ("issuer", "url"):
        address = getattr(read, name)
        if not is_safe(address) or urlsplit(address).query or urlsplit(address).fragment:
            raise UsageError(
                f"{where}: {name} {address!r}: give an address that begins with https://, or with "
                "http://127.0.0.1 on this machine",
                Code.REVIEW_SETTINGS,
            )
    parts = urlsplit(read.url)
    if parts.path.strip("/"):
        raise UsageError(
            f"{where}: url {read.url!r}: the pages are at the root of their address; leave out "
            f"{parts.path}",
            Code.REVIEW_SETTINGS,
        )
    if not read.roles:
        raise UsageError(f"{where}: roles: nobody could log in; give one", Code.REVIEW_SETTINGS)
    if "openid" not in read.scopes:
        raise UsageError(f"{where}: scopes lack 'openid'", Code.REVIEW_SETTINGS)
    places = {}
    if read.client_secret_file is not None:
        places["client_secret_file"] = str(directory / Path(read.client_secret_file).expanduser())
    if read.client_secret_env is not None:
        places["client_secret_env"] = read.client_secret_env
    return OpenIdSettings(
        issuer=read.issuer,
        client_id=read.client_id,
        secret=read_secret(where, "client_secret", places, SECRET_VARIABLE),
        url=read.url.rstrip("/"),
        roles={name: Role.parse(word) for name, word in read.roles.items()},
        title=read.title,
        scopes=read.scopes,
        name_claim=read.name_claim,
        role_claim=read.role_claim,
        link_by_name=read.link_by_name,
    )
