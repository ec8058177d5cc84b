"""Recordings: camera records in one Parquet file, byte for byte and in order of arrival.

Columns: ``key`` and ``value`` (binary), ``headers`` (list of name, value), ``timestamp`` (ms since 1970, UTC),
``partition``, ``offset``. DuckDB, pandas, Spark and Ray read it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from engines.errors import UsageError

SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.binary())]))),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC")),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
    ]
)

ROWS_PER_GROUP = 64
"""Frames in a row group at most. A group is the unit that is held in memory: about 10 MB of 150 KB frames."""

BYTES_PER_GROUP = 32 * 2**20
"""Bytes at which a row group ends, however few its frames: 64 of the largest that the service takes are 1 GiB."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One record of the camera topic. ``timestamp`` is in milliseconds since 1970, UTC."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int
    partition: int
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers

    def header(self, name: str) -> str | None:
        """The last value of a header as text; None where it is missing or not UTF-8."""
        for key, value in reversed(self.headers):
            if key == name and value is not None:
                try:
                    return value.decode()
                except UnicodeDecodeError:
                    return None
        return None


class RecordingWriter:
    """Writes frames into a recording; a context manager.

    The file appears under its name only when the writer is closed without an error, so a broken run leaves no half
    recording behind.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Frames are compressed images already: a second compression would cost time and save nothing.
        self._writer = pq.ParquetWriter(self._partial, SCHEMA, compression="none", use_dictionary=False)
        self._rows: list[RecordedFrame] = []
        self._bytes = 0
        self.frames = 0

    def write(self, frame: RecordedFrame) -> None:
        """Append one frame."""
        self._rows.append(frame)
        self._bytes += frame.nbytes
        self.frames += 1
        if len(self._rows) >= ROWS_PER_GROUP or self._bytes >= BYTES_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            rows = [
                {
                    "key": row.key,
                    "value": row.value,
                    "headers": [{"name": name, "value": value} for name, value in row.headers],
                    "timestamp": row.timestamp,
                    "partition": row.partition,
                    "offset": row.offset,
                }
                for row in self._rows
            ]
            self._writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            self._rows.clear()
            self._bytes = 0

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with self._writer:
                if error is None:
                    self._flush()
            if error is None:
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)


def write_recording(path: Path, frames: Iterable[RecordedFrame]) -> int:
    """Write all frames into the recording ``path``; returns how many there were."""
    with RecordingWriter(path) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.frames


def read_recording(path: Path) -> Iterator[RecordedFrame]:
    """The frames of a recording in order, a row group at a time.

    Raises :class:`UsageError` where the file is missing or is not a recording.
    """
    with _open(path) as file:
        for batch in _batches(file):
            # Other tools that write a recording may keep microseconds. A producer may stamp its records with any number
            # at all, one that Python's dates do not reach, too: times stay numbers.
            times = (
                batch.column("timestamp").cast(SCHEMA.field("timestamp").type, safe=False).cast(pa.int64()).to_pylist()
            )
            columns = batch.drop_columns(["timestamp"]).to_pydict()
            for row, timestamp in enumerate(times):
                yield RecordedFrame(
                    key=columns["key"][row],
                    value=columns["value"][row],
                    headers=tuple((header["name"], header["value"]) for header in columns["headers"][row] or ()),
                    timestamp=timestamp,
                    partition=columns["partition"][row],
                    offset=columns["offset"][row],
                )


def _batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    # Asked for all groups at once, pyarrow fills a batch from several: of large frames more than a group's bytes. Other
    # tools write groups of any length, so their rows are counted too.
    for group in range(file.num_row_groups):
        yield from file.iter_batches(batch_size=ROWS_PER_GROUP, row_groups=[group])


def count_frames(path: Path) -> int:
    """How many frames a recording holds, from its footer. Raises :class:`UsageError` as :func:`read_recording` does."""
    with _open(path) as file:
        return int(file.metadata.num_rows)


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recording") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{path}: not a recording ({error})") from None
    missing = set(SCHEMA.names) - set(file.schema_arrow.names)
    if missing:
        raise UsageError(f"{path}: not a recording: column {min(missing)!r} is missing")
    return file
