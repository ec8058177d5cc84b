"""All settings. The file's own ``config.yaml`` shows every key with its default, unit and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from daemon.settings.kafka import KafkaSettings
from daemon.settings.section import ConfiguredPath, Section

Probability = Annotated[float, Field(ge=0, le=1)]


class InputSettings(Section):
    """What is taken for a frame. Sizes are checked before anything is decoded."""

    require_crc32c: bool = Field(False, description="whether a frame without the header crc32c is rejected")
    bit_depth: int = Field(16, ge=9, le=16, description="bits that 16-bit samples really use")
    min_pixels: int = Field(4_096, ge=1, description="smallest frame, in pixels")
    max_pixels: int = Field(16_777_216, ge=1, le=2**28, description="largest frame, in pixels")
    max_bytes: int = Field(16_777_216, ge=1, le=2**28, description="largest encoded frame, in bytes")
    jpeg_decoder: Literal["cpu", "gpu"] = Field(
        "cpu", description="gpu: JPEG frames are decoded by nvImageCodec; what it leaves, and all else, by the cpu"
    )
    max_age_s: float = Field(
        0, ge=0, description="age, in s since its append, above which a frame is a dead letter unseen; 0: no limit"
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_pixels > self.max_pixels:
            raise ValueError("min_pixels should be at most max_pixels")
        return self


class BatchSettings(Section):
    """When a batch is closed: full, or its oldest frame old enough."""

    max_frames: int = Field(4, ge=1, le=64, description="frames in a full batch")
    max_wait_ms: float = Field(
        5, ge=0, le=10_000, description="longest time, in ms, that a frame waits for a fuller batch"
    )


class PipelineSettings(Section):
    """Threads and room between the stream and the device."""

    decode_threads: int = Field(0, ge=0, le=256, description="threads that decode images; 0: as many as cores")
    max_frames: int = Field(0, ge=0, le=65_536, description="frames held at once; 0: enough to keep the device busy")
    max_bytes: int = Field(
        536_870_912, ge=1, description="bytes of frames held at once: half as they were sent, half decoded"
    )


class EngineSettings(Section):
    """Which engines run the models, and where."""

    backend: Literal["auto", "tensorrt", "openvino"] = Field(
        "auto", description="auto: TensorRT where there is a GPU, else OpenVINO"
    )
    device: str = Field(
        "auto", min_length=1, description="the backend's name of the device (cpu; 0 or cuda:0); auto: its first"
    )
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = Field(
        "none",
        description="GPUs that TensorRT engines run on: the one they are built on, or more at some cost in speed",
    )
    directory: ConfiguredPath = Field(Path("engines/compiled"), description="folder of the built engines")
    rebuild: bool = Field(True, description="whether engines that are missing or do not fit are built at start")
    slots: int = Field(0, ge=0, le=64, description="batches inspected at the same time; 0: what suits the device")

    @field_validator("device", mode="before")
    @classmethod
    def _number_of_a_gpu(cls, value: object) -> object:
        # In a file `device: 0` is a number, and the GPU's name all the same; true is an int, too, and is no name.
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 0:
                raise ValueError("should be the number of a GPU, 0 or more, or a name")
            return str(value)
        return value


class GateSettings(Section):
    """The binary gate."""

    threshold: Probability | None = Field(
        None, description="gate score from which a frame goes on; the cascade's if null"
    )


class ClassSettings(Section):
    """One class of defects; what is null comes from the cascade."""

    name: str | None = Field(None, min_length=1, max_length=200, description="name in events and pictures")
    threshold: Probability | None = Field(None, description="classifier score from which the class is segmented")
    mask_threshold: Probability | None = Field(None, description="score from which a pixel belongs to the defect")
    min_area_px: int | None = Field(None, ge=0, description="smallest defect, in pixels of the frame")


class EventSettings(Section):
    """What is published."""

    publish: Literal["defects", "all"] = Field("defects", description="events of defective frames only, or of all")
    regions: Literal["class", "region"] = Field("class", description="one entry per class, or one per connected region")
    max_bytes: int = Field(900_000, ge=65_536, description="event size, in bytes, above which masks are left out")


class HttpSettings(Section):
    """Probes and metrics."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(9109, ge=0, le=65_535, description="TCP port; 0: no HTTP at all")


class LogSettings(Section):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe entry that is written"
    )
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else json")


class Settings(Section):
    """The whole configuration; :func:`daemon.settings.load_settings` makes it."""

    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="the broker")
    input: InputSettings = Field(default_factory=InputSettings, description="frames as they come")
    batch: BatchSettings = Field(default_factory=BatchSettings, description="batches for the device")
    pipeline: PipelineSettings = Field(default_factory=PipelineSettings, description="threads and room")
    cascade: ConfiguredPath = Field(Path("cascades/reference"), description="folder of the cascade")
    engine: EngineSettings = Field(default_factory=EngineSettings, description="the engines")
    gate: GateSettings = Field(default_factory=GateSettings, description="the gate")
    classes: dict[Annotated[int, Field(ge=1)], ClassSettings] = Field(
        default_factory=dict, description="by class number; what is not set comes from the cascade"
    )
    events: EventSettings = Field(default_factory=EventSettings, description="defect events")
    http: HttpSettings = Field(default_factory=HttpSettings, description="probes and metrics")
    log: LogSettings = Field(default_factory=LogSettings, description="logs")

    @model_validator(mode="after")
    def _events_fit_the_broker(self) -> Self:
        # Headers, key and the record's own frame come on top of the value.
        if self.events.max_bytes + 16_384 > self.kafka.max_message_bytes:
            raise ValueError("events.max_bytes should be at least 16384 below kafka.max_message_bytes")
        return self
