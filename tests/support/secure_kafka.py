"""An Apache Kafka with every lock on: TLS with client certificates, logins over TLS, and access rules on everything.

Its plaintext listener takes whoever comes as a superuser: with it a test prepares and looks at what the clients under
test may not see. Certificates are made anew with ``openssl`` by an authority of the broker's own.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from daemon.apache_kafka import HOME_VARIABLE, ApacheKafka, home
from daemon.embedded_broker import HOST, free_port
from daemon.kafka.rights import Resource, Right

PROPERTIES = """
listeners=PLAINTEXT://{host}:{plain},CONTROLLER://{host}:{controller},SSL://{host}:{tls},SASL_SSL://{host}:{login},BRIEF://{host}:{brief}
advertised.listeners=PLAINTEXT://{host}:{plain},SSL://{host}:{tls},SASL_SSL://{host}:{login},BRIEF://{host}:{brief}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,BRIEF:SASL_SSL
controller.quorum.bootstrap.servers={host}:{controller}
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_ssl.ssl.client.auth=none
sasl.enabled.mechanisms=SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.brief.ssl.client.auth=none
listener.name.brief.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.brief.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.brief.scram-sha-512.connections.max.reauth.ms={session_ms}
listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms={reauthenticate_ms}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
"""Beside those of a broker without security; of a key that is there twice the last counts. OAUTHBEARER has Kafka's
validator for development, which looks at a token's dates and believes its subject without a signature."""


REAUTHENTICATE_MS = 4_000
"""How long the broker believes a token before it asks for one again on the same connection, if the token lives so long.
"""

SESSION_MS = 3_000
"""How long a login with a password is good for where it is brief."""

PATIENCE_S = 30.0


def unavailable() -> str | None:
    """Why no such broker can be had here; None where it can."""
    if home() is None:
        return f"no Apache Kafka: {HOME_VARIABLE} names no home, or there is no Java"
    return None if shutil.which("openssl") else "no openssl to make certificates with"


class SecureKafka(ApacheKafka):
    """The broker for the length of the context. ``bootstrap`` is the superusers' plaintext listener, ``tls`` wants a
    client certificate (the user is then ``CN=<name>``), ``login`` a password or a token over TLS, ``brief`` a
    password again and again on the same connection."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        plain, controller, tls, login, brief = (free_port() for _ in range(5))
        self.bootstrap, self.tls, self.login, self.brief = (f"{HOST}:{port}" for port in (plain, tls, login, brief))
        make_authority(folder, "ca")
        make_authority(folder, "stranger")
        # Only the address: "localhost" leads to the same broker and is not in its certificate.
        broker = make_certificate(folder, "ca", "broker", f"subjectAltName=IP:{HOST}")
        (folder / "broker.pem").write_text("".join(file.read_text() for file in broker))
        more = PROPERTIES.format(
            host=HOST,
            plain=plain,
            controller=controller,
            tls=tls,
            login=login,
            brief=brief,
            folder=folder,
            reauthenticate_ms=REAUTHENTICATE_MS,
            session_ms=SESSION_MS,
        )
        with self._properties.open("a", encoding="utf-8") as properties:
            properties.write(more)

    def with_certificate(self, name: str, authority: str = "ca") -> list[str]:
        """What ``--set`` takes to connect with the certificate of ``name``, signed by an authority."""
        certificate, key = make_certificate(self.folder, authority, name)
        return [
            f"kafka.bootstrap={self.tls}",
            "kafka.security.protocol=ssl",
            f"kafka.security.ca_file={self.folder / 'ca.pem'}",
            f"kafka.security.cert_file={certificate}",
            f"kafka.security.key_file={key}",
        ]

    def with_password(self, name: str, password: str) -> list[str]:
        """What ``--set`` takes to log in as ``name``, whose password lies in a file."""
        file = self.folder / f"{name}-{len(list(self.folder.glob('*.password')))}.password"
        file.write_text(f"{password}\n")
        return [*self._with_login("SCRAM-SHA-512"), f"kafka.security.username={name}",
                f"kafka.security.password_file={file}"]  # fmt: skip

    def with_token(self, name: str, lives_s: float = 3600) -> list[str]:
        """What ``--set`` takes to show a token for ``name``, which lies in a file."""
        file = self.folder / f"{name}-{lives_s:.0f}.token"
        file.write_text(unsigned_token(name, lives_s))
        return self.with_token_file(file)

    def with_token_file(self, file: Path) -> list[str]:
        """What ``--set`` takes to show the token that lies in a file, whatever it is."""
        return [*self._with_login("OAUTHBEARER"), f"kafka.security.token_file={file}"]

    def _with_login(self, mechanism: str) -> list[str]:
        return [
            f"kafka.bootstrap={self.login}",
            "kafka.security.protocol=sasl_ssl",
            f"kafka.security.ca_file={self.folder / 'ca.pem'}",
            f"kafka.security.sasl_mechanism={mechanism}",
        ]

    @contextmanager
    def superuser(self) -> Iterator[Any]:
        """An admin client that may do everything."""
        client = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            yield client
        finally:
            client.close()

    def add_user(self, name: str, password: str) -> None:
        """Make a SCRAM user."""
        with self.superuser() as admin:
            admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, password)]
            )

    def allow(self, user: str, rights: Sequence[Right]) -> None:
        """Give a user rights, beside those it has."""
        with self.superuser() as admin:
            admin.create_acls([_rule(user, right) for right in rights])
            # The broker learns of them from its controller.
            deadline = time.monotonic() + PATIENCE_S
            while not set(rights) <= _rights_of(admin, user):
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def rights_of(self, user: str) -> set[Right]:
        """The rights that a user has."""
        with self.superuser() as admin:
            return _rights_of(admin, user)

    def tool(self, command: str) -> str:
        """Run a command of the Kafka home, as a superuser; returns what it prints."""
        name, *arguments = command.split()
        return self._run(name, "--bootstrap-server", self.bootstrap, *arguments)


def make_authority(folder: Path, name: str) -> None:
    """``<name>.pem`` and ``<name>.key``: an authority that signed itself."""
    _openssl(
        folder, f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN={name} "
        f"-keyout {name}.key -out {name}.pem",
    )  # fmt: skip


def make_certificate(folder: Path, authority: str, name: str, extensions: str = "") -> tuple[Path, Path]:
    """The certificate of ``CN=<name>`` and its unencrypted PKCS#8 key, made once."""
    stem = f"{authority}-{name}"
    certificate, key, wish, extra = (folder / f"{stem}.{ending}" for ending in ("crt", "key", "csr", "ext"))
    if not certificate.exists():
        extra.write_text(extensions)
        _openssl(
            folder, f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} "
            f"-keyout {key} -out {wish}",
        )  # fmt: skip
        _openssl(
            folder, f"x509 -req -days 1 -CA {authority}.pem -CAkey {authority}.key -CAcreateserial "
            f"-in {wish} -out {certificate} -extfile {extra}",
        )  # fmt: skip
    return certificate, key


def unsigned_token(subject: str, lives_s: float) -> str:
    """A JSON Web Token without a signature (RFC 7519, section 6)."""
    now = time.time()
    parts = ({"alg": "none"}, {"sub": subject, "iat": now, "exp": now + lives_s})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def _openssl(folder: Path, command: str) -> None:
    done = subprocess.run(
        ["openssl", *command.split()], cwd=folder, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
    )
    assert done.returncode == 0, done.stderr


_TYPES: dict[Resource, ResourceType] = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.CLUSTER,
}


def _rule(user: str, right: Right) -> Any:
    pattern = ACLResourcePatternType.PREFIXED if right.prefixed else ACLResourcePatternType.LITERAL
    return ACL(
        f"User:{user}",
        "*",
        ACLOperation[right.operation.upper()],
        ACLPermissionType.ALLOW,
        ResourcePattern(_TYPES[right.resource], right.name, pattern),
    )


def _rights_of(admin: Any, user: str) -> set[Right]:
    everything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    rules, _ = admin.describe_acls(ACLFilter(f"User:{user}", None, ACLOperation.ANY, ACLPermissionType.ANY, everything))
    resources = {kind: name for name, kind in _TYPES.items()}
    return {
        Right(
            rule.operation.name.capitalize(),
            resources[rule.resource_pattern.resource_type],
            rule.resource_pattern.resource_name,
            rule.resource_pattern.pattern_type is ACLResourcePatternType.PREFIXED,
        )
        for rule in rules
    }
