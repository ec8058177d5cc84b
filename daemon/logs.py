"""Structured logs on standard error: JSON for machines, a console format for people."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TextIO

import structlog
from structlog.typing import Processor

from daemon.log_repeats import LeaveOutRepeats
from daemon.settings import LogSettings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send all logs, structlog's and the standard library's, to ``stream`` (standard error) in the format that is set.

    May be called again; the last call holds.
    """
    stream = stream or sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    shared: Sequence[Processor] = (
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    )
    # Plain tracebacks in both formats: the prettier ones show local variables, and so passwords.
    last: Sequence[Processor] = (
        (structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback),)
        if console
        else (structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str))
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=["left_out"])],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    level = _LEVELS[settings.level]
    if level != logging.DEBUG:
        handler.addFilter(LeaveOutRepeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The client's debug entries hold whole requests, and so frames and passwords; its info entries tell of every
    # connection. One level less than ours, and never debug.
    logging.getLogger("kafka").setLevel(max(logging.INFO, logging.WARNING if level == logging.INFO else level))
    # It warns of every tenth of a second for which a busy machine did not let its thread run.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    # It counts an offset that waits for the end of another instance's transaction among the unknown errors, and tells
    # of it at each poll, for as long as kafka.transaction_timeout_ms.
    logging.getLogger("kafka.coordinator.consumer").addFilter(_not_an_error)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _not_an_error(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    # By name: a command that speaks to no broker does not wait for the client to be imported.
    return all(type(argument).__name__ != "UnstableOffsetCommitError" for argument in arguments)
