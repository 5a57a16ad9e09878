"""Prompts with holes."""

from __future__ import annotations

from dragoman_agents.prompts import placeholders, render_prompt


def test_holes_are_filled_with_text_as_it_is_and_other_values_as_json() -> None:
    template = '{{ text }} costs $5, {"json": {{items}}}, {{text}}'
    assert placeholders(template) == ("text", "items")
    filled = render_prompt(template, {"text": "Tea", "items": ["a", "ü"]})
    assert filled == 'Tea costs $5, {"json": ["a", "ü"]}, Tea'


def test_input_cannot_open_holes_of_its_own() -> None:
    filled = render_prompt("{{text}}", {"text": "{{secret}}", "secret": "hidden"})
    assert filled == "{{secret}}"


def test_a_member_that_is_not_given_leaves_nothing() -> None:
    assert render_prompt("[{{a}}]", {}) == "[]"


def test_without_a_template_one_text_is_the_prompt_and_anything_else_is_json() -> None:
    assert render_prompt(None, {"text": "Tea"}) == "Tea"
    assert render_prompt(None, {"text": "Tea", "n": 2}) == '{"text": "Tea", "n": 2}'
