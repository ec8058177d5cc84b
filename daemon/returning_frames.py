"""From a dead letter back to the frame that died, as it goes to the camera topic again; or why it cannot."""

from __future__ import annotations

from daemon.camera_topic import CameraTopic, ReturningFrame
from daemon.deadletters import CAPTURED_AT, REASON, REDRIVEN, SOURCE, VALUE_OMITTED, capture_time
from daemon.frames import Headers, Record, last_header, value_beside
from daemon.kafka import clients
from daemon.redrive_account import REASON_NAME
from daemon.settings import Settings

NO_SOURCE = "no millwatch-source that can be read"
OTHER_TOPIC = "from another topic"
DIED_AGAIN = "died again after it was put back, --died-again takes it"
SOURCE_GONE = "value left out, and the frame is gone from its topic"
SOURCE_CHANGED = "value left out, and its place has a record of another size"
TOO_LARGE = "larger than input.max_bytes"


class Unreturnable(Exception):  # noqa: N818 - control flow: why a letter is left behind
    """Its text is one of the reasons above."""


class ReturningFrames:
    """Makes the frames; ``camera`` is asked for those whose letter came without a value. Frames that died again after
    they had been put back are made only with ``died_again``."""

    def __init__(self, settings: Settings, camera: CameraTopic, *, died_again: bool) -> None:
        self._topic = settings.kafka.topics.frames
        self._max_bytes = clients.redrive_record_bytes(settings)
        self._camera = camera
        self._died_again = died_again

    def frame_of(self, letter: Record) -> ReturningFrame:
        """The frame that a letter was. Raises :class:`Unreturnable`, and the client's errors."""
        headers: Headers = tuple(letter.headers)
        topic, partition, offset = _source(headers)
        self._check_first_death(headers)
        if topic != self._topic:
            raise Unreturnable(OTHER_TOPIC)
        key, value = letter.key, letter.value
        captured = last_header(headers, CAPTURED_AT)
        omitted = last_header(headers, VALUE_OMITTED)
        if omitted is not None:
            # Its key and headers may have been left out as well, so all of it comes from the frame itself.
            original = self._camera.record_at(partition, offset)
            if original is None:
                raise Unreturnable(SOURCE_GONE)
            key, value, headers = original.key, original.value, tuple(original.headers)
            if str(len(value or b"")).encode() != omitted:
                raise Unreturnable(SOURCE_CHANGED)
            self._check_first_death(headers)
            captured = capture_time(original.timestamp)
        own = [(name, content or b"") for name, content in headers if not name.startswith("millwatch-")]
        if captured is not None and all(name != "captured-at" for name, _ in own):
            own.append(("captured-at", captured))
        own.append((REDRIVEN, f"{letter.topic}-{letter.partition}-{letter.offset}".encode()))
        frame = ReturningFrame(key, value_beside(key, value), own, partition)
        if frame.size > self._max_bytes:
            raise Unreturnable(TOO_LARGE)
        return frame

    def _check_first_death(self, headers: Headers) -> None:
        if not self._died_again and last_header(headers, REDRIVEN) is not None:
            raise Unreturnable(DIED_AGAIN)


def reason_of(letter: Record) -> str | None:
    """Why the frame of a letter died; None where the record is no letter."""
    value = last_header(tuple(letter.headers), REASON)
    reason = (value or b"").decode(errors="replace")
    return reason if REASON_NAME.fullmatch(reason) else None


def _source(headers: Headers) -> tuple[str, int, int]:
    """Topic, partition and offset of the frame that a letter was."""
    topic, _, place = (last_header(headers, SOURCE) or b"").decode(errors="replace").rpartition("-")
    offset = place
    topic, _, partition = topic.rpartition("-")
    if not (topic and all(number.isascii() and number.isdigit() for number in (partition, offset))):
        raise Unreturnable(NO_SOURCE)
    return topic, int(partition), int(offset)
