"""Records that the client cannot parse, read as far as they go.

The client (kafka-python 3.0) refuses a whole batch for one record whose header has a name that is not UTF-8, which a
broker takes from any producer, and for damage on the broker's disk. It then stays at that offset for ever: the next
poll after the refusal does not even return. Here such a record comes out in its place, with what could be read of it
and the mark that it is damaged, so that it can become a dead letter and the frames around it are inspected.
"""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

Header = tuple[str, bytes | None]

MAGIC = 2
"""Version of the record format that has headers; what is older is left to the client."""


class DamagedHeaders(list[Header]):
    """The headers of a record that could not be read as it is; ``detail`` says what is wrong with it.

    Bytes of a name that are not UTF-8 are written as ``\\xNN``.
    """

    def __init__(self, headers: list[Header], detail: str) -> None:
        super().__init__(headers)
        self.detail = detail


def tolerate_damage(consumer: KafkaConsumer) -> None:
    """Make a consumer return damaged records with :class:`DamagedHeaders` instead of raising ``CorruptRecordError``."""
    # The client has no public way in between a fetch and its records.
    consumer._fetcher.PartitionRecords = _Partition


class _Partition(Fetcher.PartitionRecords):  # type: ignore[misc]  # the client publishes no types
    """What one fetch brought of one partition."""

    def __init__(self, fetch_offset: int, partition: Any, records: MemoryRecords, **more: Any) -> None:
        super().__init__(fetch_offset, partition, _Records(records._buffer), **more)

    def take(self, n: int | None = None) -> list[Any]:
        try:
            return list(super().take(n))
        except Exception:
            # What is left of it is exhausted without being empty, and the client would look through it for ever.
            self.drain()
            raise


class _Records(MemoryRecords):  # type: ignore[misc]
    def next_batch(self) -> Any:
        batch = self._next_slice
        if batch is None or len(batch) < DefaultRecordBatch.HEADER_STRUCT.size or batch[self.MAGIC_OFFSET] != MAGIC:
            return super().next_batch()
        self._cache_next()
        return _Batch(batch)


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch whose damaged records come out marked. ``_damage`` is what is wrong with the batch as a whole."""

    def __init__(self, buffer: memoryview) -> None:
        super().__init__(buffer)
        self._damage: str | None = None
        self._expected = self.base_offset

    def validate_crc(self) -> bool:
        if super().validate_crc():
            return True
        # Without the checksum the header proves nothing, unless it says how many records there are twice.
        if self.is_control_batch or not 0 < self._num_records == self.last_offset_delta + 1:
            return False
        self._damage = "the checksum of its batch fails"
        return True

    def __iter__(self) -> _Batch:
        try:
            super().__iter__()
        except (UnsupportedCodecError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - each of the codecs has errors of its own
            self._lose_the_rest(f"its batch cannot be decompressed: {type(error).__name__}: {error}")
        return self

    def __next__(self) -> Any:
        if self._next_record_index >= self._num_records:
            raise StopIteration
        begin = self._pos
        try:
            record = super().__next__()
        except CorruptRecordError as error:
            if self.is_control_batch:
                raise
            self._next_record_index += 1
            record = self._salvaged(begin, str(error))
        else:
            if self._damage is not None and not self.is_control_batch:
                record._headers = DamagedHeaders(record.headers, self._damage)
        self._expected = record.offset + 1
        return record

    def _lose_the_rest(self, detail: str) -> None:
        """Nothing more can be told apart in this batch."""
        self._damage = self._damage or detail
        self._buffer, self._pos, self._decompressed = bytearray(), 0, True

    def _salvaged(self, begin: int, detail: str) -> DefaultRecord:
        """The record at ``begin`` with what can be read of it; the one behind it is next."""
        try:
            length, start = decode_varint(self._buffer, begin)
        except (ValueError, IndexError):
            length, start = 0, begin
        if not 0 < length <= len(self._buffer) - start:
            self._lose_the_rest(detail)
            length = 0
        else:
            self._pos = start + length
        found = _Fields(bytes(self._buffer[start : start + length]))
        offset = self.base_offset + found.offset_delta
        if not self._expected <= offset <= self.last_offset:
            offset = self._expected
        timestamp = (
            self.max_timestamp
            if self.timestamp_type == self.LOG_APPEND_TIME or found.timestamp_delta is None
            else self.first_timestamp + found.timestamp_delta
        )
        headers = DamagedHeaders(found.headers, self._damage or detail)
        return DefaultRecord(length, offset, timestamp, self.timestamp_type, found.key, found.value, headers)


class _Fields:
    """The fields of a record, up to the first that cannot be read."""

    def __init__(self, content: bytes) -> None:
        self.timestamp_delta: int | None = None
        self.offset_delta = -1
        self.key: bytes | None = None
        self.value: bytes | None = None
        self.headers: list[Header] = []
        self._content = content
        self._at = 0
        try:
            self._read()
        except (ValueError, IndexError):
            # What was read before it stays.
            return

    def _read(self) -> None:
        self._number()
        self.timestamp_delta = self._number()
        self.offset_delta = self._number()
        self.key = self._bytes()
        self.value = self._bytes()
        for _ in range(self._number()):
            name = self._bytes() or b""
            self.headers.append((name.decode(errors="backslashreplace"), self._bytes()))

    def _number(self) -> int:
        number, self._at = decode_varint(self._content, self._at)
        return int(number)

    def _bytes(self) -> bytes | None:
        length = self._number()
        if length < 0:
            return None
        end = self._at + length
        if end > len(self._content):
            raise ValueError("it ends before its length")
        found, self._at = self._content[self._at : end], end
        return found
