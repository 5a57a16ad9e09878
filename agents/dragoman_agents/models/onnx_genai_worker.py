"""The program that runs one onnxruntime-genai model in a process of its own (``worker_pool``).

Started with the model's folder as its argument. It is given ``prompt`` messages and settings, and
answers with ``{"text"}`` lines and one last line: ``finish`` and token counts, or ``error`` and
``kind``. It imports nothing of Dragoman, so that it starts quickly.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any

PROMPT_TOKENS_AT_ONCE = 256
"""Between two parts of a prompt a call can be stopped."""


class Failed(Exception):
    """A call that cannot be answered; ``kind`` is a ``ModelErrorKind``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Calls:
    """What comes in on standard input, read in a thread so that a stop arrives in time."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[dict[str, Any]] = queue.Queue()
        self.stopped = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "stop" in message:
                self.stopped = max(self.stopped, message["stop"])
            else:
                self.waiting.put(message)
        os._exit(0)  # whoever asked is gone


class Model:
    """The loaded model and its tokenizer."""

    def __init__(self, folder: str) -> None:
        import onnxruntime_genai

        self.library: Any = onnxruntime_genai
        self.library.disable_telemetry_events()
        self.model = self.library.Model(folder)
        self.tokenizer = self.library.Tokenizer(self.model)

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """The token ids of a conversation, by the model's chat template."""
        try:
            text = self.tokenizer.apply_chat_template(
                json.dumps(messages), add_generation_prompt=True
            )
            return [int(token) for token in self.tokenizer.encode(text)]
        except RuntimeError as error:
            raise Failed("invalid", f"the chat template cannot be used: {error}") from None

    def parameters(self, call: dict[str, Any], length: int) -> tuple[Any, int]:
        """The generator's parameters and the longest sequence, prompt included."""
        parameters = self.library.GeneratorParams(self.model)
        context = int(parameters.get_search_options()["max_length"])
        if length >= context:
            raise Failed(
                "context_length", f"the prompt has {length} tokens and the context {context}"
            )
        longest = min(context, length + (call.get("max_output_tokens") or context))
        options: dict[str, Any] = {"max_length": longest}
        if call.get("temperature") is not None:
            options["do_sample"] = call["temperature"] > 0
            options |= {"temperature": call["temperature"]} if call["temperature"] > 0 else {}
        if call.get("seed") is not None:
            options["random_seed"] = call["seed"] % 2**31
        parameters.set_search_options(**options)
        if call.get("schema") is not None:
            parameters.set_guidance("json_schema", json.dumps(call["schema"]))
        return parameters, longest


def answer(model: Model, call: dict[str, Any], calls: Calls, tell: Any) -> None:
    """One call, from prompt to last line."""
    prompt = model.prompt(call["messages"])
    try:
        parameters, longest = model.parameters(call, len(prompt))
        generator = model.library.Generator(model.model, parameters)
    except RuntimeError as error:
        raise Failed("invalid", str(error)) from None
    for start in range(0, len(prompt), PROMPT_TOKENS_AT_ONCE):
        generator.append_tokens(prompt[start : start + PROMPT_TOKENS_AT_ONCE])
        if calls.stopped >= call["id"]:
            break
    stream, count = model.tokenizer.create_stream(), 0
    while calls.stopped < call["id"] and not generator.is_done():
        generator.generate_next_token()
        token, count = generator.get_next_tokens()[0], count + 1
        text = stream.decode(token)
        if text:
            tell({"text": text})
    cut = len(prompt) + count >= longest
    usage = {"input_tokens": len(prompt), "output_tokens": count}
    tell({"end": True, "finish": "length" if cut else "stop", **usage})


def main(folder: str) -> None:
    """Serve calls until standard input ends."""
    # What the native library prints must not stand between the answers.
    lines = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        lines.write(json.dumps(message) + "\n")

    calls = Calls()
    model: Model | None = None
    while True:
        call = calls.waiting.get()
        try:
            model = model or Model(folder)
            if "messages" in call:
                answer(model, call, calls, tell)
            else:
                tell({"end": True})
        except Failed as error:
            tell({"end": True, "error": str(error), "kind": error.kind})
        except Exception as error:  # noqa: BLE001 - told to the other process
            kind = "unavailable" if model is None else "internal"
            tell({"end": True, "error": f"{type(error).__name__}: {error}", "kind": kind})


if __name__ == "__main__":
    main(sys.argv[1])
