"""Who plays in the demo: four example agents, one of them with a model when one is found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from dragoman_agents.models.discover import Finding, discover_models
from dragoman_agents.models.settings import ModelSettings
from dragoman_gateways.cli.demonstration.texts import examples_directory
from dragoman_gateways.cli.processes import dragoman_command
from dragoman_gateways.cli.supervising import Program

__all__ = ["SKILLS", "find_model", "glossary_translator", "programs"]

SKILLS = frozenset({"extract", "classify", "translate", "count", "report"})
PANEL = frozenset({"panel", "by-words", "by-likeness", "mistaught"})
LEASE_SECONDS = "5"

DECLARED = """\
[[agents]]
name = "interpreter"
description = "Translates with a language model"

[agents.model]
model = {model}
timeout_seconds = 45
{optional}
[[agents.skills]]
id = "translate"
description = "Translates English to French"
tags = ["text", "language"]
prompt = "Translate to French. Answer with the translation only.\\n\\n{{{{text}}}}"
"""


async def find_model() -> tuple[ModelSettings | None, list[Finding]]:
    """The first usable model, and everything that was found."""
    findings = await discover_models()
    usable = [finding.settings for finding in findings if finding.settings is not None]
    return (usable[0] if usable else None), findings


def programs(url: str, model: ModelSettings | None, directory: Path) -> list[Program]:
    """The four agents' processes; ``directory`` takes the declaration of one with a model."""
    names = ["extract", "classify", "count"]
    cast = [_example(name, url) for name in names]
    cast.append(
        glossary_translator(url) if model is None else _translator_with(model, url, directory)
    )
    return cast


def readers(url: str) -> list[Program]:
    """Two replicas of an agent that takes its time: one of them will be killed."""
    return [dataclasses.replace(_example("recite", url), label=f"recite-{n}") for n in (1, 2)]


def panel(url: str) -> list[Program]:
    """Three classifiers, one of them taught wrongly, and the ensemble in which they vote."""
    file = examples_directory() / "panel.py"
    members = [
        Program(label=name, command=_run(url, f"{file}:{name}"))
        for name in ("by_words", "by_likeness", "mistaught")
    ]
    configuration = str(examples_directory() / "ensemble.toml")
    command = dragoman_command("--config", configuration, *_words(url, "panel"))
    return [*members, Program(label="panel", command=command)]


def glossary_translator(url: str) -> Program:
    """The translator that needs no model."""
    return _example("translate", url)


def _example(name: str, url: str) -> Program:
    target = f"{examples_directory() / name}.py:agent"
    return Program(label=name, command=_run(url, target))


def _run(url: str, target: str) -> list[str]:
    return dragoman_command(*_words(url, target))


def _words(url: str, target: str) -> list[str]:
    return ["--server", url, "run", target, "--lease", LEASE_SECONDS, "--json"]


def _translator_with(model: ModelSettings, url: str, directory: Path) -> Program:
    """An agent without code: the same declaration that a user would write into dragoman.toml."""
    optional = {
        "provider": model.provider,
        "base_url": model.base_url,
        "api_key_env": model.api_key_env,
        "vendor": model.vendor,
    }
    lines = [f"{key} = {_toml(value)}" for key, value in optional.items() if value]
    path = directory / "dragoman.toml"
    path.write_text(
        DECLARED.format(
            model=_toml(model.model),
            optional="".join(f"{line}\n" for line in lines),
        ),
        encoding="utf-8",
    )
    command = dragoman_command(
        "--config",
        str(path),
        *("--server", url, "run", "interpreter", "--lease", LEASE_SECONDS, "--json"),
    )
    return Program(label="interpreter", command=command)


def _toml(text: str) -> str:
    """A TOML string; JSON spells it the same way."""
    return json.dumps(text, ensure_ascii=False)
