"""``dragoman demo``: everything at once, in under a minute."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import pass_settings
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("demo")
@pass_settings
def command(settings: Settings) -> int:
    """Start a bus and four agents, give them real tasks, and check every message.

    Starts a nats-server on a free port and four agents in processes of their own, publishes tasks
    to skills, streams the answers, says who answered and how long it took, validates everything
    that passed, and ends by itself, leaving nothing behind. Without a key (OPENAI_API_KEY) or a
    local model server (Ollama, llama.cpp) no language model is used, and it says so.
    """
    from dragoman_gateways.cli.demonstration import demonstrate

    return demonstrate()
