"""What ``dragoman init`` writes: a configuration that runs as it is, and explains itself."""

from __future__ import annotations

from pathlib import Path

from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["initialize"]

CONFIGURATION = """\
# The bus and the agents of `dragoman up`. Flags and the environment win over this file.
# Every key: docs/configuration.md

[bus]
# Without `server`, `dragoman up` starts a NATS server of its own, on this machine only.
port = 4222
data_directory = ".dragoman"
# server = "nats://nats.example.com:4222"   # use a server that runs elsewhere instead

# An agent written in Python: FILE.py:NAME, or package.module:NAME.
[[agents]]
module = "greeter.py:agent"
replicas = 1                # processes that share its work
# concurrency = 16          # tasks that one process runs at once

# An agent without code: a model, and prompts. Take the marks away and name a model that you have.
# [[agents]]
# name = "summarizer"
# description = "Summarizes text"
# prompt = "You are a careful editor."
#
# [agents.model]
# provider = "ollama"                       # or openai, anthropic, gemini: see `dragoman models`
# model = "the id that your server lists"
# # api_key_env = "MY_KEY"                  # where the key is, never the key itself; by default
# #                                         # OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY
#
# [[agents.skills]]
# id = "summarize"
# description = "Summarizes a text in three sentences"
# tags = ["text"]
# prompt = "Summarize in three sentences:\\n\\n{{text}}"
"""

AGENT = '''\
"""A first agent. Change it, then start `dragoman up` again."""

from dragoman_agents import Agent

agent = Agent("greeter", description="Greets people by name")


@agent.skill(tags=["text"])
async def greet(name: str) -> str:
    """Greets somebody."""
    return f"Hello, {name}!"
'''


def initialize(directory: Path, *, force: bool) -> list[Path]:
    """Write the files and return their paths.

    Raises:
        NotConfigured: one of them is there and ``force`` is not given, or it cannot be written.
    """
    files = {directory / "dragoman.toml": CONFIGURATION, directory / "greeter.py": AGENT}
    if not force:
        for path in files:
            if path.exists():
                raise NotConfigured(f"{path} is there already; --force overwrites it")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise NotConfigured(f"{directory} cannot be written: {error.strerror}") from None
    return list(files)
