"""A function's signature as a skill: input and output schemas, decoding, and how it is called.

Spec: spec/model.md, contracts. Types are msgspec's: builtins, Structs, dataclasses, enums,
``Annotated`` with ``msgspec.Meta``. A parameter named ``ctx`` receives the ``Context``.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import msgspec
from msgspec import Raw

from dragoman_agents.context import Context
from dragoman_agents.schemas import refusal_of_input, refusal_of_output
from dragoman_bus.protocol.a2a import Message
from dragoman_bus.protocol.contracts import input_from_message
from dragoman_bus.protocol.errors import NotConfigured, RemoteError

__all__ = ["CONTEXT_PARAMETER", "Signature", "annotations_of", "read_signature", "schema_of_type"]

CONTEXT_PARAMETER = "ctx"
Kind = Literal["async", "sync", "stream"]


class Signature:
    """How to call a function with a JSON document, and what it returns.

    Attributes:
        input_schema, output_schema: JSON Schemas, self-contained.
        text_input: The parameter that plain text fills; ``None`` when there is none.
        kind: ``async`` (coroutine), ``sync`` (run in a thread) or ``stream`` (async generator of
            text; its output is the joined text).
    """

    def __init__(
        self, function: Callable[..., Any], input_type: Any, output_type: Any, kind: Kind
    ) -> None:
        self.function = function
        self.kind: Kind = kind
        self.takes_context = CONTEXT_PARAMETER in inspect.signature(function).parameters
        self.input_schema = schema_of_type(input_type)
        self.output_schema = schema_of_type(output_type)
        self.text_input = _text_parameter(input_type)
        self._input = msgspec.json.Decoder(input_type)
        self._output = msgspec.json.Decoder(output_type)
        self._output_is_text = output_type is str
        self._fields = input_type.__struct_fields__
        self._only_text = _only_text(input_type)

    def arguments(self, message: Message, text_input: str | None) -> dict[str, Any]:
        """The arguments that an A2A message brings; its text fills the member ``text_input``.

        Raises:
            InvalidInput: as ``decode``, and when the message is not one input.
        """
        parts = message.parts
        if text_input and text_input == self._only_text and len(parts) == 1:
            text = parts[0].text
            if isinstance(text, str):
                # Any text is valid: no document to write and read again, 3 us of 28 for a task.
                return {text_input: text}
        return self.decode(input_from_message(message, text_input))

    def decode(self, document: Raw) -> dict[str, Any]:
        """The arguments in a JSON document.

        Raises:
            InvalidInput: naming the failing paths, also in its details.
        """
        try:
            decoded = self._input.decode(document)
        except (msgspec.DecodeError, RecursionError) as error:
            raise refusal_of_input(self.input_schema, document, str(error)) from None
        return {name: getattr(decoded, name) for name in self._fields}

    def check_output(self, value: Any) -> Any:
        """``value`` as it travels, if the output schema allows it.

        Raises:
            RemoteError: ``INVALID_OUTPUT``.
        """
        if self._output_is_text and type(value) is str and value.isascii():
            return value
        document: bytes | None = None
        try:
            document = msgspec.json.encode(value)
            self._output.decode(document)
        except (
            msgspec.MsgspecError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:
            raise self._refusal_of_output(document, str(error)) from None
        return value if isinstance(value, str) else msgspec.to_builtins(value)

    def _refusal_of_output(self, document: bytes | None, words: str) -> RemoteError:
        if document is None:
            # It is no JSON value at all, so no schema can say what is wrong with it.
            return RemoteError(
                f"the skill's output breaks its contract: {words}",
                code="INVALID_OUTPUT",
                side_effects="possible",
                details={"violations": [{"path": "", "message": words}]},
            )
        return refusal_of_output(self.output_schema, msgspec.json.decode(document), words)


def read_signature(function: Callable[..., Any]) -> Signature:
    """The signature of a skill function.

    Raises:
        NotConfigured: parameters without names (``*args``) or with types JSON cannot carry, or a
            generator that is not asynchronous.
    """
    name = getattr(function, "__name__", "skill")
    if inspect.isgeneratorfunction(function):
        raise NotConfigured(f"skill {name} yields: write `async def {name}` to stream pieces")
    hints = annotations_of(function, name)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise NotConfigured(f"skill {name}: *args and **kwargs have no schema; name each input")
        if parameter.name == CONTEXT_PARAMETER:
            continue
        kind = hints.get(parameter.name, Any)
        if kind is Context:
            raise NotConfigured(
                f"skill {name}: the context's parameter is named ctx: `ctx: Context`"
            )
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind, parameter.default))
    try:
        input_type = msgspec.defstruct(f"{name}_input", fields, kw_only=True)
        return Signature(function, input_type, *_output_of(function, hints))
    except TypeError as error:
        raise NotConfigured(f"skill {name}: its types have no JSON form: {error}") from None


def annotations_of(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """The annotations, evaluated; that of ``ctx`` is for readers and may name anything.

    Raises:
        NotConfigured: one names a type that cannot be found.
    """
    function = inspect.unwrap(function)
    written = dict(inspect.get_annotations(function))
    written.pop(CONTEXT_PARAMETER, None)
    holder = type("annotations", (), {"__annotations__": written})
    try:
        return typing.get_type_hints(
            holder, globalns=getattr(function, "__globals__", {}), include_extras=True
        )
    except NameError as error:
        raise NotConfigured(
            f"skill {name}: {error}; types in a signature are defined or imported at module level"
        ) from None


def _output_of(function: Callable[..., Any], hints: dict[str, Any]) -> tuple[Any, Kind]:
    declared = hints.get("return", Any)
    if inspect.isasyncgenfunction(function):
        return str, "stream"
    if typing.get_origin(declared) in (AsyncIterator, typing.AsyncIterator):
        return str, "stream"
    return declared, "async" if inspect.iscoroutinefunction(function) else "sync"


def schema_of_type(kind: Any) -> dict[str, Any]:
    """The schema of a type; a reference at the top is replaced by what it refers to."""
    schema = msgspec.json.schema(kind)
    reference = schema.get("$ref")
    if isinstance(reference, str) and set(schema) <= {"$ref", "$defs"}:
        name = reference.removeprefix("#/$defs/")
        definitions = dict(schema["$defs"])
        top = definitions[name]
        if reference not in str(definitions):
            del definitions[name]
        schema = {**top, **({"$defs": definitions} if definitions else {})}
    return schema


def _text_parameter(input_type: Any) -> str | None:
    """The first required parameter of type ``str``, when no other parameter is required."""
    required = [f for f in msgspec.structs.fields(input_type) if f.required]
    if len(required) == 1 and _is_text(required[0].type):
        return required[0].encode_name
    return None


def _only_text(input_type: Any) -> str | None:
    """The one parameter, if there is no other and its type is ``str`` without constraints."""
    fields = msgspec.structs.fields(input_type)
    if len(fields) == 1 and fields[0].type is str:
        return fields[0].encode_name
    return None


def _is_text(kind: Any) -> bool:
    return kind is str or (typing.get_origin(kind) is typing.Annotated and kind.__origin__ is str)
