"""TLS and client certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import requests
import trustme

from beam_fraud.errors import Code, UsageError
from beam_fraud.serve.http.listen import Listen
from tests.failing import fails
from tests.serve.stand_in import AUTH, GOOD, served


def written(directory: Path, name: str, certificate: trustme.LeafCert) -> tuple[Path, Path]:
    chain, key = directory / f"{name}.pem", directory / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return chain, key


def test_clients_with_a_certificate_of_the_authority_are_answered(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    cert, key = written(tmp_path, "server", authority.issue_cert("127.0.0.1"))
    client = written(tmp_path, "client", authority.issue_cert("gateway.example"))
    stranger = written(tmp_path, "stranger", other.issue_cert("gateway.example"))

    def status(pair: tuple[Path, Path] | None) -> int:
        return requests.post(
            f"{api.url}/predict",
            json=GOOD,
            headers=AUTH,
            verify=str(tmp_path / "ca.pem"),
            cert=pair and (str(pair[0]), str(pair[1])),
            timeout=10,
        ).status_code

    with served(listen=Listen(port=0, tls_cert=cert, tls_key=key)) as api:
        assert api.url.startswith("https://")
        assert status(None) == 200
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{api.port}/healthz", timeout=10)
    mutual = Listen(port=0, tls_cert=cert, tls_key=key, tls_client_ca=tmp_path / "ca.pem")
    with served(listen=mutual) as api:
        assert status(client) == 200
        for refused in (None, stranger):
            with pytest.raises(requests.ConnectionError):
                status(refused)


def test_a_renewed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    authority = trustme.CA()
    cert, key = written(tmp_path, "server", authority.issue_cert("127.0.0.1"))
    with served(listen=Listen(port=0, tls_cert=cert, tls_key=key)) as api:
        before = ssl.get_server_certificate(("127.0.0.1", api.port), timeout=10)
        written(tmp_path, "server", authority.issue_cert("127.0.0.1"))
        now = before
        while now == before:
            now = ssl.get_server_certificate(("127.0.0.1", api.port), timeout=10)
    assert (
        now
        == cert.read_text().partition("-----END CERTIFICATE-----")[0].replace("\r", "")
        + "-----END CERTIFICATE-----\n"
    )


def test_options_of_tls_that_cannot_work_are_refused(tmp_path: Path) -> None:
    cert, key = written(tmp_path, "server", trustme.CA().issue_cert("127.0.0.1"))
    other, _ = written(tmp_path, "other", trustme.CA().issue_cert("127.0.0.1"))
    with fails(Code.OPTION_CONFLICT, "--tls-key", UsageError):
        Listen(tls_cert=cert)
    with fails(Code.OPTION_CONFLICT, "--tls-client-ca", UsageError):
        Listen(tls_client_ca=cert)
    for wrong in ((tmp_path / "absent", key), (other, key), (key, cert)):
        listen = Listen(port=0, tls_cert=wrong[0], tls_key=wrong[1])
        with fails(Code.SECRET_UNREADABLE, "--tls-cert"), served(listen=listen):
            pass
