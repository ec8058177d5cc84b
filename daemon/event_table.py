"""Defect events for people: a line each, under a heading, the defects in the colours of their classes."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from daemon.deadletters import DeadFrame
from daemon.events import DefectEvent
from daemon.pictures.palette import class_colour

_COLUMNS = (("captured", 12), ("camera", 12), ("coil", 12), ("position", 11), ("frame", 20))


class EventTable:
    """Shows events on standard output as they come; the heading goes before the first."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._empty = True

    def show(self, event: DefectEvent) -> None:
        """Show one event."""
        position = "" if event.position_mm is None else f"{event.position_mm / 1000:.3f} m"
        # The time alone: whoever watches knows the day.
        captured = event.captured_at.partition("T")[2].removesuffix("Z")
        line = self._line(captured, event.camera, event.coil or "", position, event.frame or event.id)
        for defect in event.defects:
            line.append("  ")
            line.append("■ ", style=class_colour(defect.class_id).css)
            line.append(f"{defect.class_id} {_one_line(defect.name)} {defect.score:.2f} {defect.area_px} px")
        if not event.defects:
            line.append("  clean", style="dim")
        self._print(line)

    def show_dead(self, frame: DeadFrame) -> None:
        """Show a frame that could not be inspected."""
        line = self._line("", frame.camera, "", "", frame.frame or frame.id)
        line.append("  ")
        line.append("✗ ", style="red")
        line.append(f"{_one_line(frame.reason)}: {_one_line(frame.detail)}")
        self._print(line)

    def _line(self, *values: str) -> Text:
        if self._empty:
            heading = "  ".join(f"{name:<{width}}" for name, width in _COLUMNS)
            self._print(Text(f"{heading}  defects", style="bold"))
            self._empty = False
        return Text("  ".join(_fit(value, width) for value, (_, width) in zip(values, _COLUMNS, strict=True)))

    def _print(self, line: Text) -> None:
        # Long lines are for the terminal, or for whoever reads the file, to wrap.
        self._console.print(line, soft_wrap=True)


def _fit(text: str, width: int) -> str:
    text = _one_line(text)
    return f"{text:<{width}}" if len(text) <= width else f"{text[: width - 1]}…"


def _one_line(text: str) -> str:
    # A header may hold anything, also what would steer a terminal.
    return "".join(character if character.isprintable() else "?" for character in text)
