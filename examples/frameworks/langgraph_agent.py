"""A LangGraph graph, served; its checkpointer remembers each conversation.

MODEL=the-model OPENAI_API_KEY=… dragoman run examples/frameworks/langgraph_agent.py:agent
"""

import os

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from dragoman_agents import wrap

model = ChatOpenAI(model=os.environ["MODEL"], max_retries=0)
graph = create_agent(model, system_prompt="Be brief.", checkpointer=InMemorySaver())
agent = wrap(graph, "graph-helper", description="Answers questions")
