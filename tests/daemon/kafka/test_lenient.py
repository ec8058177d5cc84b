"""Records that the client cannot parse come out in their place; those around them as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from daemon.kafka import lenient
from tests.support.topics import NotUtf8

PARTITION = TopicPartition("camera.frames", 0)


def batch(records: list[tuple[bytes, list[tuple[str, bytes]]]], codec: int = 0, base: int = 0) -> bytes:
    """A record batch of these values and headers, timestamps 1000, 1001 and so on."""
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 20)
    for number, (value, headers) in enumerate(records):
        builder.append(number, 1000 + number, b"cam-1", value, headers)
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")
    return bytes(built)


def with_checksum(built: bytearray) -> bytes:
    """The batch with the checksum of what it holds now."""
    from crc32c import crc32c

    at = DefaultRecordBatch.CRC_OFFSET
    built[at : at + 4] = crc32c(bytes(built[DefaultRecordBatch.ATTRIBUTES_OFFSET :])).to_bytes(4, "big")
    return bytes(built)


def read(data: bytes, offset: int = 0, kind: Any = lenient._Partition) -> list[Any]:
    partition = kind(offset, PARTITION, MemoryRecords(data))
    records: list[Any] = []
    while partition:
        records += partition.take(3)
    return records


def details(records: list[Any]) -> list[str | None]:
    return [getattr(record.headers, "detail", None) for record in records]


def of_values(*values: bytes) -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    return [(value, []) for value in values]


@pytest.mark.parametrize("codec", [0, 1], ids=["plain", "gzip"])
def test_a_name_that_is_not_utf_8_marks_its_record_alone_and_costs_nothing_of_it(codec: int) -> None:
    data = batch([(b"a", []), (b"b", [(NotUtf8(), b"1"), ("coil-id", b"C1")]), (b"c", [("coil-id", b"C2")])], codec)
    records = read(data)
    assert [(record.offset, record.timestamp, record.key, record.value) for record in records] == [
        (0, 1000, b"cam-1", b"a"),
        (1, 1001, b"cam-1", b"b"),
        (2, 1002, b"cam-1", b"c"),
    ]
    assert records[1].headers == [("caf\\xe9", b"1"), ("coil-id", b"C1")]
    before, damage, after = details(records)
    assert (before, after) == (None, None)
    assert damage is not None
    assert "utf-8" in damage


def test_reading_goes_on_behind_a_damaged_record_that_was_read_before() -> None:
    data = batch([(b"a", [(NotUtf8(), b"1")]), *of_values(b"b", b"c")])
    assert [record.value for record in read(data, offset=1)] == [b"b", b"c"]


def test_the_bare_client_never_gets_past_such_a_record() -> None:
    """Where this fails, a new version of the client may read such records by itself."""
    data = batch([(b"a", []), (b"b", [(NotUtf8(), b"1")]), (b"c", [])])
    bare = Fetcher.PartitionRecords(0, PARTITION, MemoryRecords(data))
    assert [record.value for record in bare.take(3)] == [b"a"]
    with pytest.raises(CorruptRecordError):
        bare.take(3)
    assert (bool(bare), bare.take(3), bare.next_fetch_offset) == (True, [], 1)


def broken_length(built: bytearray) -> bytes:
    built[DefaultRecordBatch.HEADER_STRUCT.size] = 0x7F
    return with_checksum(built)


def broken_number_of_headers(built: bytearray) -> bytes:
    # The last byte of the first record.
    built[DefaultRecordBatch.HEADER_STRUCT.size + built[DefaultRecordBatch.HEADER_STRUCT.size] // 2] = 0x01
    return with_checksum(built)


def broken_checksum(built: bytearray) -> bytes:
    built[-1] ^= 0xFF
    return bytes(built)


@pytest.mark.parametrize(
    ("damage", "values"),
    [
        (broken_length, [None, None, None]),
        (broken_number_of_headers, [b"a", b"b", b"c"]),
        (broken_checksum, [b"a", b"b", b"c"]),
    ],
)
def test_every_record_of_a_damaged_batch_has_its_offset_and_the_next_batch_is_whole(
    damage: Callable[[bytearray], bytes], values: list[bytes | None]
) -> None:
    built = damage(bytearray(batch(of_values(b"a", b"b", b"c"))))
    records = read(built + batch(of_values(b"d"), base=3))
    assert [record.offset for record in records] == [0, 1, 2, 3]
    assert [record.value for record in records] == [*values, b"d"]
    assert details(records)[0] is not None
    assert details(records)[3] is None


def test_a_batch_that_cannot_be_decompressed_is_damaged_record_by_record() -> None:
    built = bytearray(batch(of_values(b"a" * 100, b"b" * 100), codec=1))
    built[DefaultRecordBatch.HEADER_STRUCT.size :] = b"x" * (len(built) - DefaultRecordBatch.HEADER_STRUCT.size)
    records = read(with_checksum(built))
    assert [(record.offset, record.value) for record in records] == [(0, None), (1, None)]
    assert all("decompressed" in str(detail) for detail in details(records))


def test_a_codec_that_is_missing_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    built = batch(of_values(b"a" * 100), codec=1)
    monkeypatch.setattr("kafka.codec.has_gzip", lambda: False)
    with pytest.raises(UnsupportedCodecError):
        read(built)


def test_a_batch_that_contradicts_itself_is_refused_each_time_it_is_read() -> None:
    built = bytearray(broken_checksum(bytearray(batch(of_values(b"a", b"b")))))
    built[23:27] = (7).to_bytes(4, "big")  # the offset of its last record
    partition = lenient._Partition(0, PARTITION, MemoryRecords(bytes(built)))
    with pytest.raises(CorruptRecordError):
        partition.take(3)
    assert not partition
