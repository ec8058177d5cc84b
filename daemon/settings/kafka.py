"""The section ``kafka``: addresses, names, delivery and security."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from daemon.settings.section import ConfiguredPath, Section
from engines.errors import UsageError

# Kafka's own rule for topics, which brokers also apply to the name of a static member; a group may be called anything,
# but it becomes part of the transactional id, and that is written into access rules.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", min_length=1, max_length=200)]
Milliseconds = Annotated[int, Field(ge=1)]

MAX_PORT = 65_535


class Topics(Section):
    """The three topics."""

    frames: Name = Field("camera.frames", description="frames of the cameras, read")
    events: Name = Field("defect.events", description="defect events, written")
    dead: Name = Field("camera.frames.dead", description="frames that could not be inspected, written")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if len({self.frames, self.events, self.dead}) < 3:
            raise ValueError("frames, events and dead should be three different topics")
        return self


class Security(Section):
    """How the broker is known and how this program proves who it is. Files are read when a client is made."""

    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="with or without TLS (ssl), with or without a login (sasl)"
    )
    ca_file: ConfiguredPath | None = Field(
        None, description="PEM file of the authorities that sign brokers; the system's own if not set"
    )
    cert_file: ConfiguredPath | None = Field(None, description="PEM file of this client's certificate and its chain")
    key_file: ConfiguredPath | None = Field(None, description="PEM file of this client's private key")
    key_password: SecretStr | None = Field(None, description="password of the private key")
    key_password_file: ConfiguredPath | None = Field(None, description="file that holds the private key's password")
    check_hostname: bool = Field(True, description="whether a broker's certificate must name the host")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="how to log in where protocol has sasl"
    )
    username: str | None = Field(None, description="user of PLAIN and SCRAM")
    password: SecretStr | None = Field(None, description="password of PLAIN and SCRAM")
    password_file: ConfiguredPath | None = Field(None, description="file that holds the password")
    token_file: ConfiguredPath | None = Field(
        None, description="file that holds the OAUTHBEARER token; read again for each login, so it may be renewed"
    )

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in ("ssl", "sasl_ssl")

    @property
    def sasl(self) -> bool:
        """Whether connections log in."""
        return self.protocol in ("sasl_plaintext", "sasl_ssl")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.password and self.password_file:
            raise ValueError("password and password_file exclude each other")
        if self.key_password and self.key_password_file:
            raise ValueError("key_password and key_password_file exclude each other")
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file")
        if self.sasl and self.sasl_mechanism == "OAUTHBEARER":
            if not self.token_file:
                raise ValueError("OAUTHBEARER needs token_file")
        elif self.sasl and not (self.username and (self.password or self.password_file)):
            raise ValueError(f"{self.protocol} needs username and password or password_file")
        return self

    def login_password(self) -> SecretStr | None:
        """The password of PLAIN and SCRAM, from wherever it comes. :class:`UsageError` if its file cannot be read."""
        return _secret(self.password, self.password_file, "kafka.security.password_file")

    def private_key_password(self) -> SecretStr | None:
        """The password of the private key. :class:`UsageError` if its file cannot be read."""
        return _secret(self.key_password, self.key_password_file, "kafka.security.key_password_file")


class KafkaSettings(Section):
    """The broker, the consumer group and how results are delivered."""

    bootstrap: str = Field("127.0.0.1:9092", description="host:port of one or more brokers, separated by commas")
    group: Name = Field("millwatch", description="consumer group; instances of one group share the partitions")
    instance: Name = Field(
        default_factory=socket.gethostname,
        description="this instance's name in the group: two on one host need two names; the host's name if not set",
    )
    topics: Topics = Field(default_factory=Topics, description="names of the topics")
    start: Literal["earliest", "latest"] = Field("earliest", description="where a group without offsets begins")
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once", description="events and offsets in one transaction, or offsets after the events"
    )
    commit_interval_ms: Milliseconds = Field(
        500, le=60_000, description="longest time, in ms, that offsets of clean frames wait for their commit"
    )
    publish_delay_ms: int = Field(
        0, ge=0, le=60_000, description="longest time, in ms, that a finished event waits for others before its commit"
    )
    commit_max_frames: int = Field(2000, ge=1, le=1_000_000, description="frames after which a commit starts at once")
    session_timeout_ms: Milliseconds = Field(
        10_000, ge=6_000, description="silence, in ms, after which the group gives this instance's partitions away"
    )
    heartbeat_interval_ms: Milliseconds = Field(3_000, description="time between heartbeats, in ms")
    max_poll_interval_ms: Milliseconds = Field(
        60_000, ge=10_000, description="longest time, in ms, between two polls before the instance counts as stuck"
    )
    transaction_timeout_ms: Milliseconds = Field(
        30_000, ge=5_000, le=900_000, description="time, in ms, after which the broker aborts an open transaction"
    )
    max_message_bytes: int = Field(
        1_000_000,
        ge=100_000,
        description="largest record, in bytes, that the broker takes on the events and dead topics",
    )
    security: Security = Field(default_factory=Security, description="encryption and login")

    @field_validator("bootstrap")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(","):
            if not re.fullmatch(r"\s*(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]]+):\d{1,5}\s*", address):
                raise ValueError("should be host:port, or several of them separated by commas")
            if not 1 <= int(address.rpartition(":")[2]) <= MAX_PORT:
                raise ValueError(f"should have ports from 1 to {MAX_PORT}")
        return value.replace(" ", "")

    @model_validator(mode="after")
    def _times(self) -> Self:
        if self.heartbeat_interval_ms * 2 > self.session_timeout_ms:
            raise ValueError("heartbeat_interval_ms should be at most half of session_timeout_ms")
        if self.commit_interval_ms * 2 > self.transaction_timeout_ms:
            raise ValueError("commit_interval_ms should be at most half of transaction_timeout_ms")
        return self

    @property
    def transactional_id(self) -> str:
        """The name by which the broker fences an earlier life of this instance: one per instance, and stable."""
        return f"{self.group}-{self.instance}"

    @property
    def redrive_group(self) -> str:
        """The group whose offsets tell which dead letters were put back, and the transactional id under which they are:
        one for all instances, so that two never do it at once."""
        return f"{self.group}.redrive"


def _secret(value: SecretStr | None, file: Path | None, key: str) -> SecretStr | None:
    if file is None:
        return value
    try:
        return SecretStr(file.read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{key}: cannot read {file}: {error}") from None
