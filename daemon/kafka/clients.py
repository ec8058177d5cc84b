"""The Kafka clients of this program, with the values that frames need and exactly-once delivery depends on.

A client is not safe for use from several threads and does not survive a fork; whoever makes one owns and closes it.
"""

from __future__ import annotations

import importlib.util
import ssl
from typing import Any, Literal, TypeVar

import structlog
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.net.compat import KafkaNetClient
from kafka.net.sasl.oauth import AbstractTokenProvider

from daemon.kafka.lenient import tolerate_damage
from daemon.kafka.member import GroupMember
from daemon.settings import Security, Settings
from engines.errors import UsageError

log = structlog.get_logger(__name__)

Consumer = TypeVar("Consumer", bound=KafkaConsumer)

MAX_PARTITION_FETCH_BYTES = 8 * 1024 * 1024
"""The client's default of 1 MiB holds six frames of 150 KB, and each fetch is a round trip."""

MAX_FETCH_BYTES = 8 * 1024 * 1024
"""Of all partitions together, before they are read: with the client's default of 50 MiB a backlog takes 60 MB more
memory, and the service's grows with the backlog's age."""

FETCH_WAIT_MS = 50
"""How long the broker may hold a fetch that finds no frame. The client has one fetch at a time under way at a broker,
and asks for a partition only once its last frames are taken: with the default of 500 ms a partition that has frames
waits that long for one that has none."""

MAX_POLL_RECORDS = 32
"""The client's default of 500 would be 75 MB of frames in one poll."""

CONNECT_TIMEOUT_MS = 10_000
"""How long a new client looks for a broker before it raises ``KafkaTimeoutError``."""

METADATA_AGE_MS = 30_000
"""How long it may take until new partitions are seen. With the client's default that is 5 minutes."""

RETRY_BACKOFF_MS = 5
"""Pause before a transactional request is tried again. The broker answers "concurrent transactions" while it still
completes the last one, which takes it some milliseconds: with the client's default of 100 ms every commit that follows
another at once would wait that long."""

RECORD_OVERHEAD_BYTES = 16_384
"""Room that a request needs beside a record's value: its headers, its key and the batch around it."""


class _TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # the client publishes no types
    """Reads the OAUTHBEARER token anew for each login, so that whoever renews the file needs no restart."""

    def __init__(self, security: Security) -> None:
        super().__init__()
        self._security = security

    def token(self) -> str:
        """The token for a login; called by the client, which passes no error on: it is logged here."""
        try:
            return token_of(self._security)
        except UsageError as error:
            log.warning("no token for a login", error=str(error))
            raise


def token_of(security: Security) -> str:
    """The OAUTHBEARER token as its file has it now. Raises :class:`UsageError` where it cannot be read, or is empty."""
    file = security.token_file
    try:
        token = file.read_text(encoding="utf-8").strip() if file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"kafka.security.token_file: cannot read {file}: {error}") from None
    if not token:
        raise UsageError(f"kafka.security.token_file: {file} is empty")
    return token


def consumer(settings: Settings) -> GroupMember:
    """The group's consumer of the camera topic, not yet subscribed.

    A static member, so that a restart within the session keeps its partitions. It reads committed records only although
    frames are not transactional: only then do committed offsets wait for transactions that are still being completed.
    Raises ``KafkaTimeoutError`` where no broker can be reached; :mod:`daemon.kafka.diagnose` finds out why.
    """
    kafka = settings.kafka
    return _made_consumer(
        GroupMember,
        settings,
        group_id=kafka.group,
        group_instance_id=kafka.instance,
        # Positions are the source's to decide: the client would pass over frames without a word.
        auto_offset_reset="none",
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_bytes=MAX_FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
        max_poll_records=MAX_POLL_RECORDS,
        session_timeout_ms=kafka.session_timeout_ms,
        heartbeat_interval_ms=kafka.heartbeat_interval_ms,
        max_poll_interval_ms=kafka.max_poll_interval_ms,
        allow_auto_create_topics=False,
    )


def reader(
    settings: Settings,
    *,
    start: Literal["earliest", "latest"] = "latest",
    fetch_bytes: int = MAX_PARTITION_FETCH_BYTES,
    group: str | None = None,
) -> KafkaConsumer:
    """A consumer of committed records outside every group, for commands that only look: partitions are assigned by
    hand and nothing is committed. ``start`` is where it begins on a partition that nobody sought, ``fetch_bytes`` how
    much of a partition one request brings (a larger record comes all the same), and ``group`` whose committed offsets
    it may be asked for."""
    return _made_consumer(
        KafkaConsumer,
        settings,
        group_id=group,
        auto_offset_reset=start,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=fetch_bytes,
        max_poll_records=MAX_POLL_RECORDS,
        allow_auto_create_topics=False,
    )


def redrive_reader(settings: Settings) -> KafkaConsumer:
    """A :func:`reader` that can also be asked for the offsets of the redrive group, without ever joining it. As in
    :func:`consumer` they wait for transactions that are still being completed."""
    return reader(settings, start="earliest", group=settings.kafka.redrive_group)


def producer(settings: Settings, *, transactional: bool) -> KafkaProducer:
    """An idempotent producer for the events and dead-letter topics; ``transactional`` under the instance's own id.

    ``init_transactions`` is the caller's to call, before it reads committed offsets. After an aborted transaction that
    had offsets the producer has to be closed and made again: the client keeps offsets whose commit failed and would
    send them with the next transaction.
    """
    kafka = settings.kafka
    return _result_producer(settings, kafka.transactional_id if transactional else None, kafka.max_message_bytes)


def redrive_producer(settings: Settings) -> KafkaProducer:
    """A transactional producer that puts dead letters back into the camera topic, under the redrive group's name; what
    :func:`producer` says of transactions holds for it as well."""
    return _result_producer(settings, settings.kafka.redrive_group, redrive_record_bytes(settings))


def redrive_record_bytes(settings: Settings) -> int:
    """The largest record, in bytes, that :func:`redrive_producer` sends: any frame that is taken, any dead letter."""
    return max(settings.input.max_bytes, settings.kafka.max_message_bytes) + RECORD_OVERHEAD_BYTES


def _result_producer(settings: Settings, transactional_id: str | None, max_request_size: int) -> KafkaProducer:
    kafka = settings.kafka
    # Whatever the line's thread waits for must end before the group or the broker gives up on it.
    patience_ms = min(kafka.transaction_timeout_ms, kafka.max_poll_interval_ms) // 2
    transaction: dict[str, Any] = {}
    if transactional_id is not None:
        transaction = {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": kafka.transaction_timeout_ms,
            "retry_backoff_ms": RETRY_BACKOFF_MS,
        }
    return _made(
        KafkaProducer,
        **_common(settings, request_timeout_ms=min(10_000, patience_ms - 1)),
        **transaction,
        max_block_ms=patience_ms,
        delivery_timeout_ms=patience_ms,
        max_request_size=max_request_size,
        batch_size=256 * 1024,
        allow_auto_create_topics=False,
    )


def frame_producer(settings: Settings) -> KafkaProducer:
    """An idempotent producer for the camera topic, for commands that put frames there. It holds what it has not sent
    without bound: the caller waits for the futures of earlier frames."""
    return _made(
        KafkaProducer,
        **_common(settings),
        max_block_ms=30_000,
        delivery_timeout_ms=60_000,
        max_request_size=settings.input.max_bytes + RECORD_OVERHEAD_BYTES,
        allow_auto_create_topics=False,
    )


def admin(settings: Settings, *, connect_timeout_ms: int = CONNECT_TIMEOUT_MS) -> KafkaAdminClient:
    """A client for topics and groups. Raises ``KafkaTimeoutError`` where it finds no broker in time."""
    return _made(KafkaAdminClient, **{**_common(settings), "bootstrap_timeout_ms": connect_timeout_ms})


def cluster_id(client: KafkaConsumer | KafkaAdminClient) -> str:
    """The cluster's id as the connected broker gave it; ``unknown`` for a broker that has none."""
    # The client has no public way to it that works with every broker: describe_cluster needs a newer protocol.
    return str(client._manager.cluster.cluster_id or "unknown")


def next_offset(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    """The offset of the record that an assigned partition's next poll begins with; None where it is not known yet."""
    # position() says the same, but asks the broker where some other partition's is not known.
    position = consumer._subscription.assignment[partition].position
    return None if position is None else int(position.offset)


def broker_addresses(client: KafkaConsumer | KafkaAdminClient) -> list[tuple[str, int]]:
    """Host and port of every broker, as the cluster gives them out."""
    return [(str(broker.host), int(broker.port)) for broker in client._manager.cluster.brokers()]


def tls_context(security: Security) -> ssl.SSLContext:
    """TLS as the settings want it. Raises :class:`UsageError` for a file that is missing or of the wrong kind."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = security.check_hostname
    if security.ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(security.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"kafka.security.ca_file: cannot use {security.ca_file}: {error}") from None
    if security.cert_file is not None:
        password = security.private_key_password()
        # Without a password OpenSSL would ask for one on the terminal, where a service waits for ever.
        answer = password.get_secret_value() if password else ""
        try:
            context.load_cert_chain(security.cert_file, security.key_file, password=answer)
        except (OSError, ssl.SSLError) as error:
            names = " and ".join(str(file) for file in (security.cert_file, security.key_file) if file)
            raise UsageError(f"kafka.security.cert_file, key_file: cannot use {names}: {error}") from None
    return context


def warn_if_slow() -> None:
    """Log a warning where the package is missing without which a process reads 26 frames a second instead of 1,200."""
    if importlib.util.find_spec("crc32c") is None:
        log.warning("checksums in Python: frames are read about 50 times slower", do="pip install crc32c")


def _made_consumer(kind: type[Consumer], settings: Settings, **values: Any) -> Consumer:
    consumer: Consumer = _made(kind, **_common(settings), **values)
    tolerate_damage(consumer)
    return consumer


def _made(kind: Any, **values: Any) -> Any:
    """A client of the library. Its constructor connects, and where it fails leaves a thread and its sockets behind:
    a service that waits for its broker would collect them."""
    connections: list[KafkaNetClient] = []

    def connect(**configuration: Any) -> KafkaNetClient:
        connections.append(KafkaNetClient(**configuration))
        return connections[-1]

    try:
        return kind(**values, kafka_client=connect)
    except BaseException:
        for connection in connections:
            connection.close()
        raise


def _common(settings: Settings, *, request_timeout_ms: int = 15_000) -> dict[str, Any]:
    security = settings.kafka.security
    values: dict[str, Any] = {
        "bootstrap_servers": settings.kafka.bootstrap.split(","),
        "client_id": f"millwatch-{settings.kafka.instance}",
        "security_protocol": security.protocol.upper(),
        "bootstrap_timeout_ms": CONNECT_TIMEOUT_MS,
        "request_timeout_ms": request_timeout_ms,
        # By default a broker that was away for long is tried every 30 s.
        "reconnect_backoff_max_ms": 2_000,
        "metadata_max_age_ms": METADATA_AGE_MS,
    }
    if security.tls:
        values["ssl_context"] = tls_context(security)
        values["ssl_check_hostname"] = security.check_hostname
    if security.sasl:
        values["sasl_mechanism"] = security.sasl_mechanism
        if security.sasl_mechanism == "OAUTHBEARER":
            values["sasl_oauth_token_provider"] = _TokenFile(security)
        else:
            password = security.login_password()
            values["sasl_plain_username"] = security.username
            values["sasl_plain_password"] = password.get_secret_value() if password else None
    return values
