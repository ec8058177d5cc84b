"""Why a broker cannot be used, in one line: what ``check`` shows and ``run`` says at start.

Looks at the addresses first (:mod:`daemon.kafka.probe`), then connects with the client and listens to its log, where it
tells of a refused login, and last asks for the topics.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

from daemon.errors import BrokerError, BrokerUnreachableError
from daemon.kafka import clients
from daemon.kafka.probe import probe, split_address
from daemon.kafka.rights import Right, missing_rights, of_service, refused_resource
from daemon.kafka.topics import topic_states
from daemon.kafka.versions import check_transactions
from daemon.settings import Settings

CONNECT_TIMEOUT_MS = 5_000
"""How long the client may try. A refused login is told within a few attempts: with TLS the broker often hangs up before
its answer is read."""


def check_broker(settings: Settings) -> str:
    """Connect and log in; returns the cluster's id.

    Raises :class:`BrokerUnreachableError` where waiting may help, :class:`BrokerError` where it does not, and
    :class:`UsageError` where a file of the security settings cannot be used.
    """
    with connected(settings) as client:
        return clients.cluster_id(client)


def check_service(settings: Settings) -> None:
    """Raise :class:`BrokerError` unless the broker can deliver as configured, and all three topics exist and may be
    used; errors as in :func:`check_broker`."""
    with connected(settings) as client:
        check_transactions(client, settings)
        problems = [state.problem for state in topic_states(client, settings) if state.problem]
    if problems:
        raise BrokerError("\n".join(problems))


def look_for_trouble(settings: Settings) -> None:
    """Find out why a broker that was used a moment ago is in trouble, as far as it tells: errors as in
    :func:`check_service`."""
    with connected(settings) as client:
        states = topic_states(client, settings)
    problems = [state.problem for state in states if state.problem]
    if problems:
        raise BrokerError("; ".join(problems))
    short = [state.copies_missing for state in states if state.copies_missing]
    if short:
        raise BrokerUnreachableError(
            f"{'; '.join(short)}: where they are fewer than its min.insync.replicas, nothing can be written "
            "(NotEnoughReplicas): are all brokers up?"
        )


def check_names(client: KafkaAdminClient, settings: Settings) -> None:
    """Raise :class:`BrokerError` where the group or, for exactly once, the transactional id may not be used.

    A broker tells of a transactional id, and of a group that has no members yet, only whether it may be seen, which the
    right to use it includes; the first use has the last word.
    """
    kafka = settings.kafka

    def look_at_group() -> None:
        found = client.describe_groups([kafka.group]).get(kafka.group, {})
        allowed = found.get("authorized_operations")
        if allowed and "READ" not in allowed:
            raise kafka_errors.GroupAuthorizationFailedError(kafka.group)

    looks: list[Callable[[], object]] = [look_at_group]
    if kafka.delivery == "exactly_once":
        looks.append(lambda: client.describe_transactions([kafka.transactional_id]))
    for look in looks:
        try:
            look()
        except kafka_errors.AuthorizationError:
            raise
        except (kafka_errors.BrokerResponseError, kafka_errors.IncompatibleBrokerVersion):
            # A name that was never used is unknown to the broker, and an old broker cannot be asked.
            continue


@contextmanager
def connected(settings: Settings) -> Iterator[KafkaAdminClient]:
    """An admin client that is connected and logged in; errors as in :func:`check_broker`."""
    _probe_addresses(settings)
    if settings.kafka.security.sasl_mechanism == "OAUTHBEARER" and settings.kafka.security.sasl:
        # The client would make a timeout of a file that cannot be read.
        clients.token_of(settings.kafka.security)
    with _listening() as heard:
        try:
            client = clients.admin(settings, connect_timeout_ms=CONNECT_TIMEOUT_MS)
        except kafka_errors.KafkaError as error:
            raise _login_problem(settings, heard, error) from None
        try:
            _probe_advertised(client, settings)
            yield client
        except kafka_errors.KafkaError as error:
            raise explain(error, of_service(settings)) from error
        finally:
            client.close()


def explain(error: kafka_errors.KafkaError, rights: Sequence[Right] = ()) -> BrokerError:
    """The error for the user of an error of the client: which of ``rights`` is missing, those that what was done needs,
    or that the broker does not answer."""
    kind = type(error)
    if refused_resource(error) is not None:
        missing = missing_rights(error, rights)
        if not missing:
            return BrokerError(f"the broker refused a right: {error}: see docs/security.md")
        return BrokerError("; ".join(right.missing for right in missing))
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError):
        return BrokerError("the broker refused the login: see kafka.security (username, password_file, token_file)")
    if isinstance(
        error, kafka_errors.RetriableError | kafka_errors.KafkaTimeoutError | kafka_errors.KafkaConnectionError
    ):
        return BrokerUnreachableError(f"the broker does not answer: {kind.__name__}: {error}")
    return BrokerError(f"the broker refused: {kind.__name__}: {error}")


@contextmanager
def naming(rights: Sequence[Right]) -> Iterator[None]:
    """Where the broker refuses one of these rights within the context, say which.

    What fails inside knows the client's error and not what the configuration calls the topic or the group.
    """
    try:
        yield
    except BrokerError as refusal:
        error = refusal.__cause__
        if not isinstance(error, kafka_errors.KafkaError) or not missing_rights(error, rights):
            raise
        raise explain(error, rights) from error


def _probe_addresses(settings: Settings) -> None:
    """One address that answers is enough; otherwise a refusal says more than an address that is down."""
    problems: list[BrokerError] = []
    for address in settings.kafka.bootstrap.split(","):
        try:
            probe(*split_address(address), settings.kafka.security)
        except BrokerError as problem:
            problems.append(problem)
        else:
            return
    refusals = [problem for problem in problems if not isinstance(problem, BrokerUnreachableError)]
    raise (refusals or problems)[0]


def _probe_advertised(client: KafkaAdminClient, settings: Settings) -> None:
    known = {split_address(address) for address in settings.kafka.bootstrap.split(",")}
    for host, port in clients.broker_addresses(client):
        if (host, port) not in known:
            try:
                probe(host, port, settings.kafka.security)
            except BrokerUnreachableError as problem:
                raise BrokerUnreachableError(
                    f"{problem} (the cluster gives out this address: see advertised.listeners of its brokers)"
                ) from None


def _login_problem(settings: Settings, heard: list[BaseException], error: kafka_errors.KafkaError) -> BrokerError:
    security = settings.kafka.security
    kinds = {type(told) for told in heard}
    where = f"broker {settings.kafka.bootstrap}"
    if security.sasl_mechanism == "OAUTHBEARER":
        login = "the login: a token that is wrong or has expired (kafka.security.token_file)"
    else:
        login = f"the login of {security.username}: wrong user or password (kafka.security.username, password_file)"
    if kafka_errors.SaslAuthenticationFailedError in kinds:
        return BrokerError(f"{where}: refused {login}")
    # A broker that is going down hangs up as well: then this says so.
    _probe_addresses(settings)
    # It still answers and speaks Kafka, so it hung up on purpose; with TLS often before its reason was read.
    if kafka_errors.KafkaConnectionError in kinds and security.sasl:
        return BrokerError(f"{where}: hung up on {login}")
    if kafka_errors.KafkaConnectionError in kinds:
        return BrokerError(
            f"{where}: hung up on the first request: it wants a login: set kafka.security.protocol to sasl_..."
        )
    return BrokerUnreachableError(f"{where}: answers, but gives no metadata in time ({type(error).__name__})")


class _Heard(logging.Handler):
    """Keeps the errors that the client only logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple):
            self.errors += [value for value in record.args if isinstance(value, BaseException)]


@contextmanager
def _listening() -> Iterator[list[BaseException]]:
    """Collect what the client's log tells, instead of showing it: twenty lines of retries hide the one that matters."""
    logger = logging.getLogger("kafka")
    handler, propagate, level = _Heard(), logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield handler.errors
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.removeHandler(handler)
