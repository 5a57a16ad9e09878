"""Language models and a function vote together, as a file declares them, with what each cost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from dragoman_agents import Agent
from dragoman_agents.configuration import load_configuration
from dragoman_agents.declared import build_agent
from dragoman_agents.ensembles.agents.shared_health import Cooldown
from dragoman_agents.ensembles.agents.store import Store
from dragoman_bus.protocol.errors import RemoteError
from dragoman_bus.protocol.payloads import Cost
from dragoman_bus.server import NatsServer
from dragoman_gateways.cli.exit_codes import ExitCode
from tests.integration.cli.programs import EXAMPLES, start
from tests.support.ensemble_stage import Stage, account_of, outcomes_of, report_of
from tests.support.openai_server import OpenAIServer, Reply, Silence

pytestmark = pytest.mark.anyio

MODEL = """
[[agents]]
name = "NAME"
description = "Says whether a mail is spam"
[agents.model]
base_url = "BASE_URL"
model = "NAME-1"
[agents.model.price]
input_per_million_tokens = 2.0
output_per_million_tokens = 10.0
currency = "EUR"
as_of = 2026-11-01
[[agents.skills]]
id = "classify"
description = "Says whether a mail is spam"
prompt = "Spam or ham? {{text}}"
"""
VOTE = """
[[agents]]
name = "vote"
[agents.ensemble]
kind = "consensus"
skill = "classify"
members = ["gpt", "llama", { agent = "rules", price = 0.0 }]
agreement = "normalized"
stop_early = false
"""


async def test_models_and_rules_vote_and_each_ones_cost_is_told(
    play: Stage, tmp_path: Path
) -> None:
    async with OpenAIServer() as gpt, OpenAIServer() as llama:
        gpt.answer_with(Reply(pieces=("Spam", ".")), Reply(pieces=("spam",)))
        llama.answer_with(Reply(pieces=("ham",)), Reply(pieces=("ham",)))
        file = tmp_path / "dragoman.toml"
        file.write_text(
            MODEL.replace("NAME", "gpt").replace("BASE_URL", gpt.base_url)
            + MODEL.replace("NAME", "llama").replace("BASE_URL", llama.base_url)
            + VOTE
        )
        rules = Agent("rules")

        @rules.skill
        def classify(text: str) -> str:
            return "spam" if "buy" in text.lower() else "ham"

        await play.serve(rules)
        for declaration in load_configuration(file, environment={}).agents:
            await play.serve(build_agent(declaration))

        result = await play.ask("vote", "Buy now!", skill="classify")
        limited = await play.ask(
            "vote", "Buy now!", skill="classify", max_cost=Cost(amount=1.0, currency="EUR")
        )

    account = account_of(result)
    assert outcomes_of(account)["llama"] == "dissented"
    assert report_of(account, "llama").model.model == "tiny-llama-1b"  # type: ignore[union-attr]
    costs = [report_of(account, name).usage.cost.amount for name in ("gpt", "llama")]  # type: ignore[union-attr]
    assert all(cost > 0 for cost in costs)
    assert result.usage is not None
    assert result.usage.cost == Cost(amount=pytest.approx(sum(costs)), currency="EUR")
    assert limited.value.lower() == "spam"


async def test_a_model_is_not_cooled_down_for_its_callers_short_deadlines(
    play: Stage, tmp_path: Path
) -> None:
    async with OpenAIServer() as gpt:
        gpt.answer_with(*[Silence()] * 4)
        file = tmp_path / "dragoman.toml"
        file.write_text(
            MODEL.replace("NAME", "gpt").replace("BASE_URL", gpt.base_url)
            + '[[agents]]\nname = "steady"\n[agents.ensemble]\nkind = "failover"\n'
            + 'skill = "classify"\nmembers = ["gpt"]\n'
        )
        for declaration in load_configuration(file, environment={}).agents:
            await play.serve(build_agent(declaration))
        for _ in range(4):
            with pytest.raises(RemoteError) as late:
                await play.ask("steady", skill="classify", deadline=0.5)
            assert late.value.code == "DEADLINE_EXCEEDED"

        result = await play.ask("steady", skill="classify")

    assert account_of(result).reason == "gpt: first choice"
    store = await Store.open(play.bus.transport)
    assert store is not None
    assert await store.read("health.gpt", Cooldown) is None


async def test_an_ensemble_that_waits_for_members_ends_at_a_signal(
    nats_server: NatsServer,
) -> None:
    configuration = str(EXAMPLES / "ensemble.toml")
    arguments = ("--config", configuration, "--server", nats_server.url, "run", "panel")
    async with start(*arguments) as program:
        assert program.process.stderr is not None
        words = (await program.process.stderr.readline()).decode()
        assert "waits for a member that offers 'topic'" in words
        assert "by-words, by-likeness, mistaught" in words

        assert await program.end(signal.SIGINT) == ExitCode.OK
