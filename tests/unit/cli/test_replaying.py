"""An entry of a task's log is told in one line."""

from __future__ import annotations

from dragoman_bus.durable.claiming import claim
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.tasklog import LogEntry, LogFold
from dragoman_gateways.cli.replaying import entry_words

SENDER = Sender(agent_source("clerk", "clerk-1"), lambda: 0.0, lambda: "id")


def test_a_claim_that_ends_a_task_is_told_from_one_that_runs_it() -> None:
    log = LogFold("t")
    runs = claim(log, SENDER)
    assert entry_words(LogEntry("state", 2, runs)) == "working, attempt 1"
    log.apply(LogEntry("state", 2, runs))
    late = error_object("DEADLINE_EXCEEDED", "the deadline passed")
    words = entry_words(LogEntry("state", 3, claim(log, SENDER, error=late)))
    assert words == "taken to be ended, attempt 2: DEADLINE_EXCEEDED: the deadline passed"
