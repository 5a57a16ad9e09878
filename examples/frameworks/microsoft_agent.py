"""An agent of the Microsoft Agent Framework, served.

MODEL=the-model OPENAI_API_KEY=… dragoman run examples/frameworks/microsoft_agent.py:agent
"""

import os

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient
from openai import AsyncOpenAI

from dragoman_agents import wrap

client = OpenAIChatClient(os.environ["MODEL"], async_client=AsyncOpenAI(max_retries=0))
agent = wrap(Agent(client, "Be brief."), "framework-helper", description="Answers questions")
