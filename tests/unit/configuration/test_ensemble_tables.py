"""What is wrong with a declared ensemble is said so that it can be put right."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_agents.configuration import ConfigurationError, load_configuration
from dragoman_agents.configuration.ensembles import ConsensusTable, MemberTable

HEAD = '[[agents]]\nname = "vote"\n'
VOTE = '[agents.ensemble]\nkind = "consensus"\nskill = "guess"\n'


def load(tmp_path: Path, text: str) -> ConsensusTable:
    file = tmp_path / "dragoman.toml"
    file.write_text(text)
    table = load_configuration(file, environment={}).agents[0].ensemble
    assert isinstance(table, ConsensusTable)
    return table


def test_members_are_names_or_tables(tmp_path: Path) -> None:
    table = load(tmp_path, HEAD + VOTE + 'members = ["one", { agent = "two", weight = 2 }]\n')
    assert table.members == ("one", MemberTable(agent="two", weight=2.0))
    assert table.quorum == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + VOTE + "quorom = 2\n", "quorom: is not known here; did you mean quorum"),
        (HEAD + VOTE + 'fallback = "any"\n', "fallback: is not known here; known are: kind, skill"),
        (
            HEAD + '[agents.ensemble]\nskill = "guess"\n',
            'kind: is missing; write kind = "consensus"',
        ),
        (
            HEAD + '[agents.ensemble]\nkind = "debate"\nskill = "guess"\n',
            "kind: .*write kind = .consensus. or",
        ),
        (HEAD + '[agents.ensemble]\nkind = "consensus"\n', "skill: is missing; write skill ="),
        (HEAD + VOTE + 'members = ["one", "one"]\n', "members names 'one' twice"),
        (HEAD + VOTE + 'members = ["one"]\nquorum = 2\n', "quorum is 2, and there are only 1"),
        (HEAD + VOTE + 'members = ["one"]\ntags = ["x"]\n', "not both"),
        (HEAD + VOTE + 'members = ["one", "vote"]\n', "cannot be a member of itself"),
        (HEAD + VOTE + 'members = ["One"]\n', "members"),
        (HEAD + VOTE + "members = [{ weight = 2 }]\n", "agent: is missing; write agent ="),
        (HEAD + VOTE + "quorum = 0\n", "quorum"),
        (HEAD + VOTE + 'agreement = "fuzzy"\n', "agreement"),
        (HEAD + VOTE + 'agreement = { by = "field" }\n', "path: is missing; write path ="),
        (
            HEAD + VOTE + 'agreement = { by = "field", pth = "x" }\n',
            "pth: is not known here; did you mean path",
        ),
        (HEAD + 'prompt = "x"\n' + VOTE, "members instead of a model; remove prompt"),
        ("[[agents]]\n" + VOTE, "an ensemble needs a name"),
        (
            HEAD + VOTE + '[[agents.skills]]\nid = "other"\ndescription = "x"\n',
            "an ensemble has one skill, here 'guess'",
        ),
        (HEAD + 'module = "a.py"\n' + VOTE, "module says all about the agent"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        load(tmp_path, text)
    assert "dragoman.toml" in str(caught.value)


def ensemble(name: str, members: str, offers: str = "guess") -> str:
    head = f'[[agents]]\nname = "{name}"\n[agents.ensemble]\nskill = "guess"\n'
    return head + f'offers = "{offers}"\n{members}\n'


CONSENSUS = 'kind = "consensus"\nmembers = '
STAGED = 'kind = "cascade"\nstages = '


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (ensemble("a", CONSENSUS + '["b"]') + ensemble("b", CONSENSUS + '["a"]'), {"a", "b"}),
        (
            ensemble("a", CONSENSUS + '["small", "b"]')
            + ensemble("b", STAGED + '[{ members = ["small"] }, { members = ["c"] }]')
            + ensemble("c", CONSENSUS + '[{ agent = "a" }]'),
            {"a", "b", "c"},
        ),
        (ensemble("a", STAGED + '[{ members = ["a"] }]'), {"a"}),
    ],
)
def test_ensembles_that_are_members_of_each_other_are_refused(
    tmp_path: Path, text: str, named: set[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    said = str(caught.value)
    assert "dragoman.toml" in said
    assert all(f"'{name}'" in said for name in named)


def test_an_ensemble_may_ask_another_that_shares_its_members(tmp_path: Path) -> None:
    inner = ensemble("b", CONSENSUS + '["small", "large"]')
    outer = ensemble("a", CONSENSUS + '["b", "small"]')
    assert load(tmp_path, outer + inner).named_members() == ["b", "small"]
