"""``millwatch schema``: what other programs can rely on."""

from __future__ import annotations

import json

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings


@click.command()
@click.option("--asyncapi", "topics", is_flag=True, help="The AsyncAPI document of the three topics instead.")
@with_settings
def command(settings: Settings, topics: bool) -> None:
    """Print the JSON Schema of the events.

    Example: millwatch schema --asyncapi > asyncapi.json
    """
    from daemon.schema import asyncapi, event_schema

    click.echo(json.dumps(asyncapi(settings) if topics else event_schema(), indent=2, ensure_ascii=False))
