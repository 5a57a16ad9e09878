"""The configuration file, its complaints, and which source of a setting wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_agents.configuration import (
    BusSettings,
    Configuration,
    ConfigurationError,
    DurableTable,
    find_file,
    load_configuration,
)
from dragoman_agents.configuration.complaints import HINTS, TABLES
from dragoman_agents.models.pricing import price_of
from dragoman_bus.durable import DurableSettings

DECLARED = """
[[agents]]
name = "clerk"
description = "Reads letters"

[agents.model]
base_url = "http://127.0.0.1:11434/v1"
model = "tiny"

[[agents.skills]]
id = "summarize"
description = "Summarizes"
prompt = "Summarize: {{text}}"
"""
MODEL = '[agents.model] of [[agents]] number 1 ("clerk")'
AGENT = '[[agents]] number 1 ("clerk")'
SKILL = '[[agents.skills]] number 1 ("summarize") of [[agents]] number 1 ("clerk")'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "dragoman.toml") -> Path:
    file = Path(name)
    file.write_text(text)
    return file


def complaint(text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        load_configuration(written(text), environment={})
    return raised.value


def test_without_a_file_the_defaults_hold() -> None:
    configuration = load_configuration(environment={})
    assert configuration == Configuration()
    assert configuration.bus.starts_server
    assert configuration.bus.url == "nats://127.0.0.1:4222"


def test_a_declared_agent_and_its_defaults() -> None:
    agent = load_configuration(written(DECLARED), environment={}).agents[0]
    skill = agent.skills[0]
    assert (agent.replicas, agent.concurrency, skill.text_member) == (1, None, "text")
    assert not skill.is_structured
    assert skill.input_schema["required"] == ["text"]


def test_flags_win_over_environment_over_file_over_defaults() -> None:
    file = written('[bus]\nport = 1\ndata_directory = "a"\n')
    environment = {"DRAGOMAN_PORT": "2", "DRAGOMAN_CONFIG": str(file)}
    assert load_configuration(environment={"DRAGOMAN_CONFIG": str(file)}).bus.port == 1
    assert load_configuration(environment=environment).bus.port == 2
    assert load_configuration(flags={"port": 3}, environment=environment).bus.port == 3
    assert load_configuration(flags={"port": None}, environment=environment).bus.port == 2


def test_the_file_is_the_flags_then_the_environments_then_the_folders() -> None:
    assert find_file(environment={}) is None
    default = written("")
    assert find_file(environment={}) == default
    other, flagged = written("", "other.toml"), written("", "flagged.toml")
    assert find_file(environment={"DRAGOMAN_CONFIG": "other.toml"}) == other
    assert find_file("flagged.toml", {"DRAGOMAN_CONFIG": "other.toml"}) == flagged


def test_our_own_variable_wins_over_the_common_one_and_empty_is_not_set() -> None:
    both = {"NATS_URL": "nats://common", "DRAGOMAN_SERVER": "nats://own"}
    assert load_configuration(environment=both).bus.server == "nats://own"
    empty = {"NATS_URL": "nats://common", "DRAGOMAN_SERVER": ""}
    assert load_configuration(environment=empty).bus.server == "nats://common"


def test_a_server_named_above_undoes_an_embedded_one_below_and_vice_versa() -> None:
    written("[bus]\nembedded = true\n")
    bus = load_configuration(environment={"NATS_URL": "nats://there"}).bus
    assert (bus.server, bus.starts_server) == ("nats://there", False)
    written('[bus]\nserver = "nats://there"\n')
    bus = load_configuration(flags={"embedded": True}, environment={}).bus
    assert (bus.server, bus.starts_server) == (None, True)


def test_paths_in_the_file_start_at_the_files_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    text = '[bus]\ndata_directory = "data"\n[[agents]]\nmodule = "agents.py:one"\n'
    text += '[[agents]]\nmodule = "package.module:two"\n'
    text += DECLARED.replace('model = "tiny"', 'model = "tiny"\napi_key_file = "key"')
    (folder / "d.toml").write_text(text)
    configuration = load_configuration("deep/d.toml", environment={})
    file, module, declared = configuration.agents
    assert configuration.bus.data_directory == str(folder / "data")
    assert file.module == f"{folder / 'agents.py'}:one"
    assert module.module == "package.module:two"
    assert declared.model is not None
    assert declared.model.api_key_file == str(folder / "key")


@pytest.mark.parametrize(
    ("change", "table", "key", "words"),
    [
        (('model = "tiny"', 'modle = "tiny"'), MODEL, "modle", "did you mean model?"),
        (('model = "tiny"', 'api_key = "sk-x"'), MODEL, "api_key", "did you mean api_key_env?"),
        (('model = "tiny"', ""), MODEL, "model", "is missing; write model ="),
        (('model = "tiny"', "model = 3"), MODEL, "model", "must be text, got a whole number"),
        (("http://", "ftp://"), MODEL, "", "base_url is not an address"),
        (('"clerk"', '"The Clerk"'), AGENT.replace("clerk", "The Clerk"), "name", "lower-case"),
        (('description = "Reads letters"', ""), AGENT, "", "also description"),
        (('description = "Reads', 'replicas = 0\ndescription = "Reads'), AGENT, "replicas", ">= 1"),
        (('name = "clerk"', 'name = "clerk"\nmodule = "a:b"'), AGENT, "", "remove name"),
        (("{{text}}", "{{letter}}"), SKILL, "", "uses {{letter}}, but the input has: {{text}}"),
        (('"Summarizes"', '"S"\ntags = "x"'), SKILL, "tags", "must be a list, got text"),
        (('"Summarizes"', '"S"\ninput = {type = "strin"}'), SKILL, "", "is not a JSON Schema"),
        (('"Summarizes"', '"S"\ntext_input = "x"'), SKILL, "", "text_input names 'x'"),
        (("[[agents]]", "[agent]\n[[agents]]"), "", "agent", "did you mean agents?"),
        (("[[agents]]", "[bus]\nport = 99999\n[[agents]]"), "[bus]", "port", "write port = 4222"),
    ],
)
def test_a_complaint_names_file_table_key_and_what_to_write(
    change: tuple[str, str], table: str, key: str, words: str
) -> None:
    assert change[0] in DECLARED
    error = complaint(DECLARED.replace(*change, 1))
    assert (error.origin, error.table, error.key) == ("dragoman.toml", table, key)
    assert words in error.message
    assert error.message.startswith("dragoman.toml")


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("replicas = 2", "", "3 or 5"),
        ("ack_wait = 9", "ack_wait", "did you mean ack_wait_seconds?"),
        ("ack_wait_seconds = 1", "ack_wait_seconds", "three at least"),
        ('max_log_bytes = "1 GB"', "max_log_bytes", "must be a whole number, got text"),
        ("max_queued_tasks = 0", "max_queued_tasks", ">= 1"),
    ],
)
def test_a_mistaken_limit_of_durable_delivery_is_told(line: str, key: str, words: str) -> None:
    error = complaint(f"[durable]\n{line}\n")
    assert (error.table, error.key) == ("[durable]", key)
    assert words in error.message


@pytest.mark.parametrize("secret", ["sk-proj-abc123", "gsk_live_abc123"])
@pytest.mark.parametrize("key", ["api_key", "api_key_env", "api_key_enf", "temperature"])
def test_a_key_written_into_the_file_is_refused_and_not_shown(key: str, secret: str) -> None:
    error = complaint(DECLARED.replace('model = "tiny"', f'model = "tiny"\n{key} = "{secret}"'))
    assert secret not in str(error)


def test_two_agents_of_one_name_are_refused() -> None:
    assert "two agents have the name 'clerk'" in complaint(DECLARED + DECLARED).message


@pytest.mark.parametrize("text", ["x =", "[[agents]", "\ufeff= 1"])
def test_what_is_not_toml_is_said_with_its_place(text: str) -> None:
    assert "is not TOML" in complaint(text).message


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(ConfigurationError, match="DRAGOMAN_CONFIG: there is no file nope.toml"):
        load_configuration(environment={"DRAGOMAN_CONFIG": "nope.toml"})


def test_variables_and_flags_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigurationError, match="DRAGOMAN_PORT: cannot be used"):
        load_configuration(environment={"DRAGOMAN_PORT": "many"})
    with pytest.raises(ConfigurationError, match="--port: cannot be used"):
        load_configuration(flags={"port": -1}, environment={})
    contrary = {"NATS_URL": "nats://there", "DRAGOMAN_EMBEDDED": "true"}
    with pytest.raises(ConfigurationError, match="the environment: give server"):
        load_configuration(environment=contrary)


def test_a_setting_the_bus_does_not_have_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="colour"):
        load_configuration(flags={"colour": "red"}, environment={})


def test_every_required_key_has_a_hint() -> None:
    from msgspec.structs import fields

    required = {f.name for table in TABLES.values() for f in fields(table) if f.required}
    assert required <= HINTS.keys()
    assert set(BusSettings.__struct_fields__) <= HINTS.keys()
    assert set(DurableTable.__struct_fields__) <= HINTS.keys()


def test_the_limits_of_durable_delivery_are_the_buss_own_unless_the_file_says_otherwise() -> None:
    assert load_configuration(environment={}).durable.settings() == DurableSettings()
    file = written("[durable]\nreplicas = 3\nmax_queued_tasks = 7\nack_wait_seconds = 5\n")
    settings = load_configuration(file, environment={}).durable.settings()
    assert (settings.replicas, settings.queue_tasks, settings.ack_wait) == (3, 7, 5.0)


ROLES = """
[models.fast]
provider = "ollama"
model = "tiny"
api_key_file = "keys/fast"

[models.strong]
provider = "openai"
model = "large"

[[agents]]
name = "clerk"
description = "Reads letters"
model = "ROLE"

[[agents.skills]]
id = "summarize"
description = "Summarizes"
"""


def test_an_agent_names_its_model_by_role() -> None:
    configuration = load_configuration(written(ROLES.replace("ROLE", "fast")), environment={})
    (agent,) = configuration.agents
    assert agent.model == configuration.models["fast"]
    assert agent.model is not None
    assert (agent.model.provider, agent.model.model) == ("ollama", "tiny")
    assert agent.model.api_key_file == str(Path("keys/fast").resolve())


def test_a_role_that_is_not_declared_is_told_the_declared_ones() -> None:
    error = complaint(ROLES.replace("ROLE", "cheap"))
    assert "there is no table [models.cheap]; there are: fast, strong" in str(error)


def test_a_mistake_in_a_models_table_is_placed_there() -> None:
    error = complaint(ROLES.replace("ROLE", "fast").replace('"large"', '"large"\nmodle = "x"', 1))
    assert "[models" in str(error)
    assert "did you mean model?" in str(error)


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "sk-live-0123456789"',
        'token = "sk-live-0123456789"',
        'api_key_env = "sk-live-0123456789"',
        'options = { api_key = "sk-live-0123456789" }',
    ],
)
def test_a_key_in_the_file_is_refused_with_the_fix_and_never_shown(line: str) -> None:
    text = ROLES.replace("ROLE", "fast").replace('"large"', f'"large"\n{line}', 1)
    error = complaint(text)
    assert "sk-live" not in str(error)
    assert "api_key_env" in str(error)


PRICES = """
[[prices]]
provider = "ollama"
model = "tiny*"
input_per_million_tokens = 0
output_per_million_tokens = 0
currency = "EUR"
as_of = 2026-11-01
source = "our own machine"
"""


def test_a_list_of_prices_serves_the_models_that_have_none() -> None:
    configuration = load_configuration(
        written(PRICES + ROLES.replace("ROLE", "fast")), environment={}
    )
    fast = configuration.models["fast"]
    found = price_of(fast, "tiny-1b")
    assert found is not None
    assert (found.source, str(found.as_of)) == ("our own machine", "2026-11-01")
    assert price_of(fast, "huge") is None
    assert price_of(configuration.models["strong"], "tiny-1b") is None
    assert configuration.agents[0].model == fast


def test_a_mistake_in_a_price_is_placed_there() -> None:
    error = complaint(PRICES.replace("2026-11-01", '"yesterday"'))
    assert "[[prices]] number 1" in str(error)
    assert "as_of" in str(error)
