"""A PostgreSQL server on this machine, for trials and tests of databases.

python -m deploy.postgres.server --data DIR [--port N]
"""

from __future__ import annotations

import argparse
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from beam_fraud.errors import Code, FraudError
from deploy.ports import free_port, is_free
from deploy.process import ServerProcess
from deploy.stopped import until_stopped

#: Seconds that a server may take until it answers; one is usual.
START_SECONDS = 60.0
#: The server refuses to run as root.
_USER_IN_PLACE_OF_ROOT = "postgres"
_USER = "fraud"
#: Where distributions put the programs of a server.
_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


class Server:
    """A server and its data; it can stop and start again at the same address.

    Only this machine reaches it, with a password. As a context manager it runs inside the `with`.
    """

    #: A user who may do everything, and the password.
    user: str
    password: str
    #: Where it listens, at 127.0.0.1.
    port: int

    def __init__(
        self,
        data: Path,
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        certificate: tuple[Path, Path] | None = None,
        password: str | None = None,
    ) -> None:
        """Describe a server; `start` starts it.

        Args:
          data: Directory of the databases and the log; made if absent.
          port: Port for clients; a free one by default.
          settings: Of postgresql.conf, beside those for short work.
          certificate: PEM files of a certificate and its key: connections must be TLS then.
          password: Of the user; a random one by default.
        """
        self._home = data.absolute()
        self._settings = dict(settings or {})
        self._certificate = certificate
        self._process: ServerProcess | None = None
        self.user, self.password = _USER, password or secrets.token_hex(8)
        self.port = port or free_port()

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._home / "server.log"

    def url(self, database: str = "postgres", **query: str) -> str:
        """The URL of a database, with the password and options of libpq."""
        host, port = "127.0.0.1", self.port
        address = URL.create("postgresql", self.user, self.password, host, port, database, query)
        return address.render_as_string(hide_password=False)

    def create_database(self, name: str) -> str:
        """Create an empty database; return its URL.

        Raises:
          FraudError: it cannot be made.
        """
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, even if it is in use."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement outside any transaction; return its rows.

        Raises:
          FraudError: the server refuses or does not answer.
        """
        url = self.url(database).replace("postgresql://", "postgresql+psycopg://")
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                result = connection.execute(text(statement))
                return [tuple(row) for row in result] if result.returns_rows else []
        except DBAPIError as error:
            raise FraudError(
                f"PostgreSQL at port {self.port}: {error.orig}", Code.DATABASE_REFUSED
            ) from None

    def start(self) -> None:
        """Start the server and wait until it responds.

        Raises:
          FraudError: PostgreSQL is not installed, the port is taken, or the server ends.
        """
        assert self._process is None, "the server runs already"
        if not is_free(self.port):
            raise FraudError(
                f"127.0.0.1:{self.port}: something listens there already; stop it or choose "
                "another port",
                Code.PORT_UNUSABLE,
            )
        data = self._home / "data"
        if not (data / "PG_VERSION").exists():
            self._make(data)
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port)}
        settings |= {"unix_socket_directories": "", **self._settings}
        command = [str(program("postgres")), "-D", str(data)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = ServerProcess(
            "PostgreSQL server",
            command,
            self.log,
            user=_user(),
            # By SIGTERM it would wait for its clients to go.
            stop_signal=signal.SIGINT,
        )
        self._process.start()
        try:
            # Its log says so for certain: with TLS, only some clients may connect.
            self._process.wait_until(lambda: _answers(self.port), START_SECONDS)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop the server quickly but cleanly, if it runs."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def restart(self) -> None:
        """Stop and start the server."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kill the server and its processes, as a crash would, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def send(self, number: int) -> None:
        """Send a signal to the server and all of its processes, if it runs."""
        if self._process is not None and (server := self._process.pid) is not None:
            for process in (server, *_children(server)):
                with suppress(ProcessLookupError):
                    os.kill(process, number)

    def wait(self) -> None:
        """Wait until the server ends.

        Raises:
          FraudError: It ended before it was stopped.
        """
        assert self._process is not None, "the server does not run"
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make(self, data: Path) -> None:
        initdb = program("initdb")
        self._home.mkdir(parents=True, exist_ok=True)
        self._give(self._home)
        secret = self._home / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password, "ascii")
        self._give(secret)
        command = [str(initdb), "-D", str(data), "-U", self.user, "--pwfile", str(secret)]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        user = _user()
        done = subprocess.run(
            command,
            cwd=self._home,
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        secret.unlink()
        if done.returncode:
            raise FraudError(
                f"{data}: initdb fails: {' '.join(done.stderr.split())}", Code.DATABASE_REFUSED
            )
        if self._certificate is not None:
            self._require_tls(data, self._certificate)

    def _require_tls(self, data: Path, certificate: tuple[Path, Path]) -> None:
        for name, source in zip(("server.crt", "server.key"), certificate, strict=True):
            shutil.copyfile(source, data / name)
            (data / name).chmod(0o600)
            self._give(data / name)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n", "ascii")
        with (data / "postgresql.conf").open("a", encoding="ascii") as file:
            file.write("ssl = on\n")

    def _give(self, path: Path) -> None:
        if (user := _user()) is not None:
            shutil.chown(path, user, user)


def _answers(port: int) -> bool:
    """Return whether the server asks for a login: during its start it refuses logins."""
    import psycopg

    try:
        psycopg.connect(host="127.0.0.1", port=port, user=_USER, password="", connect_timeout=5)
    except psycopg.OperationalError as error:
        message = str(error)
        return "no password supplied" in message or "pg_hba.conf" in message
    return True


def _children(process: int) -> list[int]:
    """Return the server's processes; each has its own session."""
    pids = Path(f"/proc/{process}/task/{process}/children").read_text("ascii")
    return [int(child) for child in pids.split()]


def program(name: str) -> Path:
    """Return the path of a program of a PostgreSQL server.

    Raises:
      FraudError: it is not installed.
    """
    path = shutil.which(name)
    if path is not None:
        return Path(path)
    for folder in _FOLDERS:
        start, *pattern = Path(folder).parts
        if places := sorted(Path(start).glob(str(Path(*pattern, name)))):
            return places[-1]
    raise FraudError(f"{name} is nowhere: install PostgreSQL 13 or newer ", Code.PROGRAM_MISSING)


def _user() -> str | None:
    """Return the user that runs the server: the caller, or another one if the caller is root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(_USER_IN_PLACE_OF_ROOT)
    except KeyError:
        raise FraudError(
            f"a PostgreSQL server does not run as root, and there is no user "
            f"{_USER_IN_PLACE_OF_ROOT!r}; run this as someone else",
            Code.DATABASE_REFUSED,
        ) from None
    return _USER_IN_PLACE_OF_ROOT


def main() -> int:
    """Run a server until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Run a PostgreSQL server to try databases out.")
    parser.add_argument("--data", type=Path, required=True, help="directory of its databases")
    parser.add_argument("--port", type=int, default=5433)
    parser.add_argument("--password", default="fraud", help="of the user `fraud`; set at first")
    options = parser.parse_args()

    def serve() -> None:
        with Server(options.data, options.port, password=options.password) as server:
            shown = f"postgresql://{server.user}@127.0.0.1:{server.port}/postgres"
            print(f"PostgreSQL answers at {shown}; Ctrl-C stops it", file=sys.stderr)
            server.wait()

    return until_stopped(serve)


if __name__ == "__main__":
    sys.exit(main())
