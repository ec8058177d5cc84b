"""Pictures of defect events: each event's frame, fetched again from the camera topic, with the defects drawn in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog
from kafka import KafkaConsumer, TopicPartition

from daemon.decoding import frame_decoder
from daemon.events import DefectEvent
from daemon.frames import Frame, frame_of
from daemon.inspector import image_limits
from daemon.kafka import clients
from daemon.kafka.session import session
from daemon.pictures.files import PictureFolder
from daemon.pictures.marks import event_marks
from daemon.pictures.overlay import Grey, Picture, draw
from daemon.settings import Settings
from engines.errors import FrameRejectedError, UsageError

log = structlog.get_logger(__name__)

FETCH_BYTES = 64 * 1024
"""Asked for at once: one frame is wanted, and the broker sends at least one whatever its size."""

POLL_MS = 200

FETCH_S = 10.0
"""How long the broker may take over one frame before it counts as gone."""


class EventPictures:
    """Writes a picture of each event into a folder; made by :meth:`open`."""

    def __init__(self, finder: FrameFinder, folder: PictureFolder, settings: Settings) -> None:
        self._finder = finder
        self._folder = folder
        self._decode = frame_decoder(image_limits(settings), require_crc32c=False)

    @classmethod
    @contextmanager
    def open(cls, settings: Settings, folder: Path) -> Iterator[EventPictures]:
        """With a Kafka client of its own. Raises :class:`UsageError` where the folder cannot be made."""
        pictures = PictureFolder(folder)
        with session(settings, partial(clients.reader, fetch_bytes=FETCH_BYTES)) as consumer:
            yield cls(FrameFinder(consumer), pictures, settings)

    def save(self, event: DefectEvent) -> Path | None:
        """Write the picture ``ID.jpg`` of an event; None, with a warning that says why, where there can be none."""
        frame = self._finder.find(event.id)
        if frame is None:
            log.warning("no picture: the broker does not keep this frame any more", frame=event.id)
            return None
        try:
            picture = picture_of(event, self._decode(frame))
        except FrameRejectedError as error:
            log.warning("no picture: the frame cannot be decoded", frame=event.id, error=str(error))
            return None
        except UsageError as error:
            log.warning("no picture: the event does not fit its frame", frame=event.id, error=str(error))
            return None
        return self._folder.save(event.id, picture)


def picture_of(event: DefectEvent, pixels: Grey) -> Picture:
    """The frame, grey uint8 ``[height, width]``, with the event's defects drawn in: BGR uint8 ``[height, width, 3]``.

    Raises :class:`UsageError` where the event is of a frame of another size.
    """
    if pixels.shape != (event.height, event.width):
        size, told = f"{pixels.shape[1]}x{pixels.shape[0]}", f"{event.width}x{event.height}"
        raise UsageError(f"{event.id}: the frame has {size} pixels, its event says {told}")
    return draw(pixels, event_marks(event))


class FrameFinder:
    """Gets single frames from the camera topic with a consumer that the caller owns and nobody else uses."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def find(self, frame_id: str) -> Frame | None:
        """The frame ``topic-partition-offset``; None where the broker does not keep it any more, or never did."""
        topic, partition, offset = _place(frame_id)
        if topic is None:
            return None
        place = TopicPartition(topic, partition)
        if partition not in (self._consumer.partitions_for_topic(topic) or ()):
            return None
        self._consumer.assign([place])
        if not self._consumer.beginning_offsets([place])[place] <= offset < self._consumer.end_offsets([place])[place]:
            return None
        self._consumer.seek(place, offset)
        deadline = time.monotonic() + FETCH_S
        while time.monotonic() < deadline:
            for record in self._consumer.poll(timeout_ms=POLL_MS, max_records=1).get(place, ()):
                # Nothing further is wanted; otherwise the client would go on fetching ahead.
                self._consumer.assign([])
                return frame_of(record) if record.offset == offset else None
        return None


def _place(frame_id: str) -> tuple[str | None, int, int]:
    topic, _, rest = frame_id.rpartition("-")
    name, _, partition = topic.rpartition("-")
    if not (name and partition.isdecimal() and rest.isdecimal()):
        return None, 0, 0
    return name, int(partition), int(rest)
