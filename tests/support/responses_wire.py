"""OpenAI's Responses wire for the scripted server: whole responses, and the events of a stream."""

from __future__ import annotations

from typing import Any

ID = "resp-1"


def response(
    pieces: tuple[str, ...] | list[str],
    *,
    model: str,
    finish: str | None = "stop",
    refusal: str | None = None,
    tool_calls: Any = (),
    usage: Any = None,
) -> dict[str, Any]:
    """A whole response; ``usage`` is given in the words of Chat Completions."""
    part: dict[str, Any] = {"type": "output_text", "text": "".join(pieces), "annotations": []}
    if refusal is not None:
        part = {"type": "refusal", "refusal": refusal}
    output: list[dict[str, Any]] = [{"type": "reasoning", "id": "rs-1", "summary": []}]
    if pieces or refusal is not None:
        output.append(
            {
                "type": "message",
                "id": "msg-1",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    output += [
        {
            "type": "function_call",
            "id": f"fc-{call}",
            "call_id": call,
            "name": name,
            "arguments": "".join(parts),
        }
        for call, name, parts in tool_calls
    ]
    cut = finish == "length"
    return {
        "id": ID,
        "object": "response",
        "created_at": 1,
        "model": model,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None if usage is None else _usage(usage),
    }


def text_event(piece: str) -> dict[str, Any]:
    """One piece of text in a stream."""
    return {
        "type": "response.output_text.delta",
        "item_id": "msg-1",
        "output_index": 1,
        "content_index": 0,
        "delta": piece,
        "logprobs": [],
        "sequence_number": 1,
    }


def events(pieces: Any, whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream that ends with ``whole``."""
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    last = f"response.{whole['status']}"
    return [
        {"type": "response.created", "response": begun, "sequence_number": 0},
        *[text_event(piece) for piece in pieces],
        *[
            event
            for index, item in enumerate(whole["output"])
            if item["type"] == "function_call"
            for event in _call_events(index, item)
        ],
        {"type": last, "response": whole, "sequence_number": 9},
    ]


def _call_events(index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    """A tool call as it comes in: announced, its arguments, done."""
    place = {"output_index": index, "sequence_number": 2}
    arguments = {**place, "item_id": item["id"]}
    kind = "response.function_call_arguments"
    return [
        {"type": "response.output_item.added", "item": item | {"arguments": ""}, **place},
        {"type": f"{kind}.delta", "delta": item["arguments"], **arguments},
        {
            "type": f"{kind}.done",
            "arguments": item["arguments"],
            "name": item["name"],
            **arguments,
        },
        {"type": "response.output_item.done", "item": item, **place},
    ]


def _usage(usage: Any) -> dict[str, Any]:
    told = {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"],
    }
    if "prompt_tokens_details" in usage:
        told["input_tokens_details"] = usage["prompt_tokens_details"]
    if "completion_tokens_details" in usage:
        told["output_tokens_details"] = usage["completion_tokens_details"]
    return told
