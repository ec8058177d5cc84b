"""Configuration: defaults, file, environment and ``--set``, checked once and frozen."""

from daemon.settings.kafka import KafkaSettings, Security, Topics
from daemon.settings.load import load_settings
from daemon.settings.model import (
    BatchSettings,
    ClassSettings,
    EngineSettings,
    EventSettings,
    GateSettings,
    HttpSettings,
    InputSettings,
    LogSettings,
    PipelineSettings,
    Settings,
)

__all__ = [
    "BatchSettings",
    "ClassSettings",
    "EngineSettings",
    "EventSettings",
    "GateSettings",
    "HttpSettings",
    "InputSettings",
    "KafkaSettings",
    "LogSettings",
    "PipelineSettings",
    "Security",
    "Settings",
    "Topics",
    "load_settings",
]
