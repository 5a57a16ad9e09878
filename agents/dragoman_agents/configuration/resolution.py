"""Where each setting comes from: flags over environment over file over defaults.

======================  ============================  ==========================
key of ``[bus]``        environment                   flag (argument ``flags``)
======================  ============================  ==========================
``server``              DRAGOMAN_SERVER, NATS_URL     ``server``
``embedded``            DRAGOMAN_EMBEDDED             ``embedded``
``port``                DRAGOMAN_PORT                 ``port``
``data_directory``      DRAGOMAN_DATA_DIRECTORY       ``data_directory``
======================  ============================  ==========================

The file is the one given, else the one that ``DRAGOMAN_CONFIG`` names, else ``dragoman.toml`` in
the working directory, else none. Agents stand in the file only. A variable that is set to nothing
is not set. Relative paths in the file start at the file's folder, all others at the working
directory.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from dragoman_agents.configuration.complaints import HINTS, ConfigurationError, explain
from dragoman_agents.configuration.tables import BusSettings, Configuration
from dragoman_agents.models.settings import ModelSettings

__all__ = ["DEFAULT_FILE", "find_file", "load_configuration"]

DEFAULT_FILE = "dragoman.toml"
FILE_VARIABLE = "DRAGOMAN_CONFIG"

VARIABLES: Mapping[str, tuple[str, ...]] = {
    "server": ("DRAGOMAN_SERVER", "NATS_URL"),
    "embedded": ("DRAGOMAN_EMBEDDED",),
    "port": ("DRAGOMAN_PORT",),
    "data_directory": ("DRAGOMAN_DATA_DIRECTORY",),
}


def load_configuration(
    path: str | Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Configuration:
    """The whole configuration: flags over environment over file over defaults.

    Args:
        path: The file, when a flag names one.
        flags: Keys of ``[bus]`` given on the command line; ``None`` values are not given.
        environment: Instead of the process's own.

    Raises:
        ConfigurationError: naming file (or variable, or flag), table, key, and what to write.
    """
    known = os.environ if environment is None else environment
    file = find_file(path, known)
    content, configured = ({}, Configuration()) if file is None else _read(file)
    settings: dict[str, Any] = dict(content.get("bus", {}))
    layers = {"environment": _from_environment(known), "flags": _from_flags(flags or {})}
    bus = configured.bus
    for origin, layer in layers.items():
        settings = _overlaid(settings, layer)
        try:
            bus = msgspec.convert(settings, BusSettings)
        except msgspec.ValidationError as error:
            raise ConfigurationError(str(error), origin=f"the {origin}") from None
    return msgspec.structs.replace(configured, bus=bus)


def find_file(
    path: str | Path | None = None, environment: Mapping[str, str] | None = None
) -> Path | None:
    """The configuration file that ``load_configuration`` reads; ``None`` when there is none.

    Raises:
        ConfigurationError: the file that was named does not exist.
    """
    known = os.environ if environment is None else environment
    named = path or known.get(FILE_VARIABLE)
    if not named:
        default = Path(DEFAULT_FILE)
        return default if default.is_file() else None
    file = Path(named).expanduser()
    if not file.is_file():
        origin = "--config" if path else FILE_VARIABLE
        raise ConfigurationError(
            f"there is no file {file}; `dragoman init` writes one", origin=origin
        )
    return file


def _read(file: Path) -> tuple[dict[str, Any], Configuration]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", origin=str(file)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"is not TOML: {error}", origin=str(file)) from None
    _anchor_paths(content, file.resolve().parent)
    _check_models(content, file)
    _resolve_roles(content, file)
    _share_prices(content)
    try:
        return content, msgspec.convert(content, Configuration)
    except msgspec.ValidationError as error:
        raise explain(error, origin=str(file), data=content) from None


def _anchor_paths(content: dict[str, Any], folder: Path) -> None:
    """Make the relative paths of a file absolute; whatever is mistyped is left to validation."""

    def anchored(path: str) -> str:
        return str(folder / Path(path).expanduser())

    _rewrite(content.get("bus"), "data_directory", anchored)
    for model in _tables(content.get("models")):
        _anchor_model(model, anchored)
    agents = content.get("agents")
    for agent in agents if isinstance(agents, list) else ():
        _rewrite(agent, "module", lambda name: anchored(name) if _names_file(name) else name)
        if isinstance(agent, dict):
            _anchor_model(agent.get("model"), anchored)
            _rewrite(agent.get("ensemble"), "learned", anchored)


def _anchor_model(model: Any, anchored: Callable[[str], str]) -> None:
    _rewrite(model, "api_key_file", anchored)
    _rewrite(model.get("options") if isinstance(model, dict) else None, "path", anchored)


def _tables(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []


def _check_models(content: dict[str, Any], file: Path) -> None:
    """Judge each table of ``[models]`` by itself, since msgspec does not tell a member's name."""
    models = content.get("models")
    for name, table in models.items() if isinstance(models, dict) else ():
        try:
            msgspec.convert(table, ModelSettings)
        except msgspec.ValidationError as error:
            place = ("models", name)
            raise explain(error, origin=str(file), data=content, place=place) from None


def _resolve_roles(content: dict[str, Any], file: Path) -> None:
    """Put the table of ``[models.NAME]`` wherever an agent says ``model = "NAME"``."""
    models = content.get("models")
    known = models if isinstance(models, dict) else {}
    agents = content.get("agents")
    for agent in agents if isinstance(agents, list) else ():
        role = agent.get("model") if isinstance(agent, dict) else None
        if not isinstance(role, str):
            continue
        if role not in known:
            declared = ", ".join(known) or "none"
            raise ConfigurationError(
                f"there is no table [models.{role}]; there are: {declared}",
                origin=str(file),
                table="[[agents]]",
                key="model",
            )
        agent["model"] = known[role]


def _share_prices(content: dict[str, Any]) -> None:
    """Give the file's prices to each model that has none."""
    agents = content.get("agents")
    declared = agents if isinstance(agents, list) else []
    models = [agent.get("model") for agent in declared if isinstance(agent, dict)]
    for model in [*_tables(content.get("models")), *models]:
        if isinstance(model, dict) and "prices" in content:
            model.setdefault("prices", content["prices"])


def _rewrite(table: Any, key: str, change: Callable[[str], str]) -> None:
    if isinstance(table, dict) and isinstance(table.get(key), str) and table[key]:
        table[key] = change(table[key])


def _names_file(module: str) -> bool:
    return module.endswith((".py", ".onnx")) or module.rpartition(":")[0].endswith(".py")


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    layer: dict[str, Any] = {}
    for key, variables in VARIABLES.items():
        for variable in variables:
            if environment.get(variable) and key not in layer:
                layer[key] = _converted(environment[variable], key, variable)
    return layer


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    unknown = flags.keys() - VARIABLES.keys()
    if unknown:
        raise TypeError(f"not a key of [bus]: {', '.join(sorted(unknown))}")
    return {
        key: _converted(value, key, f"--{key.replace('_', '-')}")
        for key, value in flags.items()
        if value is not None
    }


def _converted(value: Any, key: str, origin: str) -> Any:
    kind = get_type_hints(BusSettings, include_extras=True)[key]
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"cannot be used ({error}); it stands for {HINTS[key]}", origin=origin
        ) from None


def _overlaid(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """``upper`` over ``lower``; naming a server undoes ``embedded`` below it, and vice versa."""
    kept = dict(lower)
    if "server" in upper:
        kept.pop("embedded", None)
    if upper.get("embedded"):
        kept.pop("server", None)
    return kept | upper
