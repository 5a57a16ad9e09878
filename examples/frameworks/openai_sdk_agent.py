"""An agent of the OpenAI Agents SDK, served.

    MODEL=the-model OPENAI_API_KEY=… dragoman run examples/frameworks/openai_sdk_agent.py:agent

The SDK sends traces to OpenAI unless OPENAI_AGENTS_DISABLE_TRACING=1 is set.
"""

import os

from agents import Agent, OpenAIResponsesModel
from openai import AsyncOpenAI

from dragoman_agents import wrap

model = OpenAIResponsesModel(os.environ["MODEL"], AsyncOpenAI(max_retries=0))
helper = Agent("runner-helper", instructions="Be brief.", model=model)
agent = wrap(helper, description="Answers questions")
