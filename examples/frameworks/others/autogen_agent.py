"""An agent of AutoGen, served from an environment of its own.

pip install dragoman autogen-agentchat "autogen-ext[openai]"
MODEL=the-model OPENAI_API_KEY=… dragoman run autogen_agent.py:agent
"""

import os

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient

from dragoman_agents import wrap

FACTS = {"vision": False, "function_calling": True, "json_output": True, "structured_output": True}
FACTS |= {"family": "unknown"}
client = OpenAIChatCompletionClient(model=os.environ["MODEL"], model_info=FACTS, max_retries=0)


async def ask(text: str) -> object:
    """Answers questions briefly."""
    helper = AssistantAgent("helper", client, system_message="Be brief.")
    return (await helper.run(task=text)).messages[-1]


agent = wrap(
    ask,
    "autogen-helper",
    answer=lambda message: message.content,
    usage=lambda message: message.models_usage,
)
