"""ONNX classifiers and embedders: trained here, described by their own file, served as agents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dragoman_agents import Agent, load_agent, onnx_agent, serving
from dragoman_agents.configuration import load_configuration
from dragoman_agents.declared import build_agent
from dragoman_agents.models.onnx import OnnxModel
from dragoman_agents.models.onnx_tokens import HashedWords
from dragoman_bus import Bus
from dragoman_bus.protocol.errors import NotConfigured, TaskRejected
from dragoman_bus.protocol.payloads import ModelIdentity
from dragoman_bus.transports.memory import MemoryBroker
from examples.local_models.train_classifier import write_classifier

pytestmark = pytest.mark.anyio

TEXTS = Path(__file__).parents[3] / "examples" / "texts"
TOPICS = {"harbor-letter": "trade", "slow-bread": "cooking", "comet-night": "science"}
PARAGRAPHS = [
    (paragraph, topic)
    for name, topic in TOPICS.items()
    for paragraph in (TEXTS / f"{name}.txt").read_text(encoding="utf-8").split("\n\n")
    if len(paragraph.split()) > 30
]
METADATA = {
    "dragoman.classify": "scores",
    "dragoman.labels": '["low", "high"]',
    "dragoman.name": "Tiny Judge",
}


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("onnx") / "topics.onnx")


@pytest.fixture(scope="module")
def model(topics: Path) -> OnnxModel:
    return OnnxModel(topics)


def tiny(path: Path, metadata: dict[str, str], *, rows: list[list[float]] | None = None) -> Path:
    """A model whose answer is the row of the first token, whatever else stands in the text."""
    table = numpy.array(rows or [[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]], dtype=numpy.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["input_ids", "zero"], ["first"], axis=1),
            helper.make_node("Gather", ["table", "first"], ["scores"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "words"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["texts", table.shape[1]])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(numpy.array(0, dtype=numpy.int64), "zero"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(made, metadata)
    onnx.save(made, str(path))
    return path


def bert(path: Path, metadata: dict[str, str]) -> Path:
    """What an exported encoder looks like: three inputs, logits, and a vector per token."""
    words = [str(part) for part in ("texts", "words")]
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    table = numpy.array([[1, 0], [0, 2], [4, 0]], dtype=numpy.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["attention_mask", "token_type_ids"], ["ones"]),
            helper.make_node("Mul", ["input_ids", "ones"], ["ids"]),
            helper.make_node("Gather", ["table", "ids"], ["hidden"]),
            helper.make_node("ReduceSum", ["hidden", "axis"], ["logits"], keepdims=0),
        ],
        "bert",
        [helper.make_tensor_value_info(name, TensorProto.INT64, words) for name in inputs],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", 2]),
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [*words, 2]),
        ],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(numpy.array([1], dtype=numpy.int64), "axis"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(made, metadata)
    onnx.save(made, str(path))
    return path


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_an_exported_encoder_works_as_it_is(tmp_path: Path, activation: str) -> None:
    metadata = {
        **METADATA,
        "dragoman.classify": "logits",
        "dragoman.activation": activation,
        "dragoman.embed": "hidden",
        "dragoman.tokenizer": '{"kind": "hashed-words", "buckets": 3}',
    }
    model = OnnxModel(bert(tmp_path / "bert.onnx", metadata))
    words = "one two three"
    ids = model._tokenize(words)
    hidden = numpy.array([[1, 0], [0, 2], [4, 0]], dtype=numpy.float32)[ids]
    low, high = hidden.sum(axis=0)
    found = model.classify(words).scores
    if activation == "softmax":
        assert sum(found.values()) == pytest.approx(1)
        assert found["high"] == pytest.approx(1 / (1 + numpy.exp(low - high)), abs=1e-5)
    else:
        assert found["high"] == pytest.approx(1 / (1 + numpy.exp(-high)), abs=1e-5)
    mean = hidden.mean(axis=0)
    assert model.embed(words).vector == pytest.approx(mean / numpy.linalg.norm(mean), abs=1e-5)


def test_an_activation_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="activation is softmax or sigmoid"):
        OnnxModel(tiny(tmp_path / "tiny.onnx", {**METADATA, "dragoman.activation": "relu"}))


def test_it_classifies_texts_that_it_was_not_trained_on(model: OnnxModel) -> None:
    right = [model.classify(text).label == topic for text, topic in PARAGRAPHS]
    assert len(right) >= 16
    assert sum(right) >= 0.85 * len(right)


def test_its_probabilities_add_up_and_the_likeliest_is_the_label(model: OnnxModel) -> None:
    found = model.classify(PARAGRAPHS[0][0])
    assert sum(found.scores.values()) == pytest.approx(1, abs=1e-4)
    assert found.confidence == max(found.scores.values()) == found.scores[found.label]


def test_texts_of_one_topic_have_vectors_closer_to_each_other(model: OnnxModel) -> None:
    vectors = [(model.embed(text).vector, topic) for text, topic in PARAGRAPHS]
    near, far = [], []
    for number, (one, topic) in enumerate(vectors):
        assert sum(value * value for value in one) == pytest.approx(1, abs=1e-4)
        for other, its_topic in vectors[number + 1 :]:
            cosine = sum(a * b for a, b in zip(one, other, strict=True))
            (near if topic == its_topic else far).append(cosine)
    assert sum(near) / len(near) > sum(far) / len(far) + 0.5


def test_a_text_without_known_words_is_classified_with_little_confidence(model: OnnxModel) -> None:
    assert model.classify("?!").confidence < 0.5


def test_the_card_is_what_the_file_says(topics: Path) -> None:
    agent = onnx_agent(topics)
    announced = agent.announcement()
    assert agent.name == "topics"
    assert agent.description == "Tells texts about cooking, science, sport, trade apart"
    assert list(agent.skills) == ["classify", "embed"]
    output = agent.skills["classify"].signature.output_schema
    assert output["properties"]["label"] == {"enum": ["cooking", "science", "sport", "trade"]}
    assert agent.skills["embed"].signature.output_schema["properties"]["vector"]["minItems"] == 16
    assert isinstance(announced.models, list)
    assert (announced.models[0].provider, announced.models[0].model) == ("onnx", "topics")


async def test_it_is_served_typed_and_says_what_it_read(topics: Path) -> None:
    broker = MemoryBroker()
    async with serving(onnx_agent(topics), broker.connect()), Bus(broker.connect()) as bus:
        verdict = await bus.ask("classify", PARAGRAPHS[-1][0])
        vector = await bus.ask("embed", {"text": "bread"})
        with pytest.raises(TaskRejected) as refused:
            await bus.ask("classify", {"text": ""})
    assert verdict.value["label"] == "science"
    assert verdict.usage is not None
    assert verdict.usage.input_tokens == len(HashedWords(4096, 4)(PARAGRAPHS[-1][0]))
    assert verdict.receipt is not None
    assert verdict.receipt.model == ModelIdentity(provider="onnx", family="topics", model="topics")
    assert len(vector.value["vector"]) == 16
    assert refused.value.code == "INVALID_INPUT"


def test_a_configuration_names_the_file_alone(topics: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "topics.onnx").write_bytes(topics.read_bytes())
    file = tmp_path / "dragoman.toml"
    file.write_text('[[agents]]\nmodule = "models/topics.onnx"\nconcurrency = 3\n')
    agent = build_agent(load_configuration(file, environment={}).agents[0])
    assert (agent.name, agent.concurrency) == ("topics", 3)
    assert isinstance(load_agent(str(topics)), Agent)


def test_a_tokenizer_file_beside_the_model_is_used(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.models.WordLevel({"[UNK]": 0, "high": 1, "low": 2}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    told = METADATA | {"dragoman.tokenizer": json.dumps({"kind": "tokenizers"})}
    model = OnnxModel(tiny(tmp_path / "judge.onnx", told))
    assert model.classify("high hopes").label == "high"
    assert model.classify("low tide").label == "low"
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(NotConfigured, match=r"put tokenizer.json into"):
        OnnxModel(tmp_path / "judge.onnx")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, r"does not say what it does.*\['scores'\]"),
        ({"dragoman.classify": "verdict"}, "names no output"),
        ({"dragoman.classify": "scores"}, "labels must list two"),
        (METADATA | {"dragoman.labels": '["a", "a"]'}, "different labels"),
        (METADATA | {"dragoman.labels": "low, high"}, r"dragoman.labels is wrong"),
        (METADATA | {"dragoman.tokenizer": '{"kind": "spells"}'}, r"dragoman.tokenizer is wrong"),
        (METADATA | {"dragoman.tokenizer": '{"file": "../x.json"}'}, r"tokenizer is wrong"),
    ],
)
def test_metadata_that_does_not_suffice_is_explained(
    tmp_path: Path, metadata: dict[str, str], reason: str
) -> None:
    with pytest.raises(NotConfigured, match=reason):
        OnnxModel(tiny(tmp_path / "judge.onnx", metadata))


def test_an_answer_that_is_no_probability_is_not_passed_on(tmp_path: Path) -> None:
    told = METADATA | {"dragoman.tokenizer": '{"buckets": 2}'}
    wild = OnnxModel(tiny(tmp_path / "wild.onnx", told, rows=[[7.0, -3.0], [float("nan"), 0.0]]))
    with pytest.raises(ValueError, match="2 labels"):
        wild.classify("!")
    with pytest.raises(ValueError, match="2 labels"):
        wild.classify("word")


def test_a_missing_or_broken_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="there is no model file"):
        onnx_agent(tmp_path / "gone.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no protobuf")
    with pytest.raises(NotConfigured, match=r"cannot load .*bad.onnx"):
        onnx_agent(tmp_path / "bad.onnx")


def test_a_name_that_the_bus_cannot_carry_is_changed(tmp_path: Path) -> None:
    assert onnx_agent(tiny(tmp_path / "judge.onnx", METADATA)).name == "tiny-judge"
