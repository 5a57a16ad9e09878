"""Plain functions: async or not, of a text or of typed values, whole or piece by piece.

The signature is the contract, as for ``Agent.skill``; what it does not annotate is text. A lambda
that returns a coroutine is awaited, so any framework's call can be wrapped by one.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from msgspec import Raw

from dragoman_agents.signature import CONTEXT_PARAMETER, annotations_of, read_signature
from dragoman_agents.wrapping.port import Description, Options
from dragoman_agents.wrapping.run import Run
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["CallableDriver"]

END = object()


class CallableDriver:
    """Runs one callable."""

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        self._function = function
        self._options = options
        self._takes_context = CONTEXT_PARAMETER in inspect.signature(function).parameters
        self._signature = read_signature(_declared(function, is_read=options.answer is not None))
        self._threads: ThreadPoolExecutor | None = None

    def describe(self) -> Description:
        """See ``Driver.describe``."""
        written = _written(self._function)
        name = getattr(written, "__name__", "")
        words = inspect.getdoc(written)
        output = self._signature.output_schema
        return Description(
            name=name if name.isidentifier() and name != "__call__" else None,
            words=words.splitlines()[0] if words else None,
            input_schema=self._signature.input_schema,
            output_schema=None if output == {"type": "string"} else output,
            text_input=self._signature.text_input,
            takes_attachments=None if self._takes_context else False,
        )

    async def run(self, given: Any, run: Run) -> Any:
        """See ``Driver.run``."""
        arguments = self._signature.decode(Raw(msgspec.json.encode(given)))
        if self._takes_context:
            arguments[CONTEXT_PARAMETER] = run.ctx
        found = await self._call(arguments)
        if isinstance(found, AsyncIterator | Iterator):
            return await self._joined(found, run)
        if self._options.usage is not None:
            run.used(self._options.usage(found))
        return found if self._options.answer is None else self._options.answer(found)

    async def aclose(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def _call(self, arguments: dict[str, Any]) -> Any:
        if _is_async(self._function):
            found = self._function(**arguments)
        else:
            found = await self._in_thread(functools.partial(self._function, **arguments))
        return await found if inspect.isawaitable(found) else found

    async def _joined(self, pieces: Any, run: Run) -> str:
        said = []
        if isinstance(pieces, AsyncIterator):
            async for piece in pieces:
                said.append(piece)
                await run.emit(piece)
        else:
            while (piece := await self._in_thread(lambda: next(pieces, END))) is not END:
                said.append(piece)
                await run.emit(piece)
        return "".join(said)

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(
                self._options.concurrency, thread_name_prefix="dragoman-wrapped"
            )
        within = contextvars.copy_context()
        future = asyncio.get_running_loop().run_in_executor(self._threads, within.run, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # A thread cannot be interrupted: the task's slot stays taken until it ends.
            await asyncio.wait([future])
            raise


def _declared(function: Callable[..., Any], *, is_read: bool) -> Callable[..., Any]:
    """A stand-in with the signature of ``function``, where all that is not annotated is text."""
    written = _written(function)
    name = getattr(written, "__name__", type(function).__name__)
    try:
        parameters = list(inspect.signature(function).parameters.values())
        hints = annotations_of(written, name)
    except (TypeError, ValueError) as error:
        raise NotConfigured(f"{name} has no signature to read: {error}") from None

    def stand_in() -> None:
        """Never called."""

    for parameter in parameters:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise NotConfigured(f"{name}: inputs have names, so {parameter.name} needs one too")
    named = [p for p in parameters if p.name != CONTEXT_PARAMETER]
    annotations = {p.name: hints.get(p.name, str) for p in named}
    returned = hints.get("return", str)
    if is_read or _gives_pieces(function, returned):
        returned = str
    stand_in.__name__ = name if name.isidentifier() else "function"
    stand_in.__annotations__ = annotations | {"return": returned}
    stand_in.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return stand_in


def _written(function: Callable[..., Any]) -> Any:
    """The function that somebody wrote: behind ``partial``, or the ``__call__`` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return inspect.unwrap(function)
    return type(function).__call__


def _is_async(function: Callable[..., Any]) -> bool:
    written = _written(function)
    return inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written)


def _gives_pieces(function: Callable[..., Any], returned: Any) -> bool:
    written = _written(function)
    if inspect.isasyncgenfunction(written) or inspect.isgeneratorfunction(written):
        return True
    origin = getattr(returned, "__origin__", returned)
    return inspect.isclass(origin) and issubclass(origin, AsyncIterator | Iterator)
