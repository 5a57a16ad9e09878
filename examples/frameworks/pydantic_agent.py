"""A Pydantic AI agent, served; with output_type=, its answers have a schema.

MODEL=the-model OPENAI_API_KEY=… dragoman run examples/frameworks/pydantic_agent.py:agent
"""

import os

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from dragoman_agents import wrap

provider = OpenAIProvider(openai_client=AsyncOpenAI(max_retries=0))
helper = Agent(OpenAIChatModel(os.environ["MODEL"], provider=provider), instructions="Be brief.")
agent = wrap(helper, "typed-helper", description="Answers questions")
