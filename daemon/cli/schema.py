"""``millwatch schema``: what other programs can rely on."""

from __future__ import annotations

import json

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings


@click.command()
@click.option("--asyncapi", "topics", is_flag=True, help="The AsyncAPI document of the three topics instead.")
@click.option("--verify-gpu", "report", is_flag=True, help="The JSON Schema of verify-gpu's report instead.")
@with_settings
def command(settings: Settings, topics: bool, report: bool) -> None:
    """Print the JSON Schema of the events.

    Example: millwatch schema --asyncapi > asyncapi.json
    """
    from daemon.schema import asyncapi, event_schema
    from engines.verification.report import report_schema

    if topics and report:
        raise click.UsageError("--asyncapi and --verify-gpu are two documents", click.get_current_context())
    document = asyncapi(settings) if topics else report_schema() if report else event_schema()
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
