"""A crew of CrewAI, served from an environment of its own: CrewAI holds back OpenAI's SDK.

pip install dragoman crewai
MODEL=the-model OPENAI_API_KEY=… dragoman run crewai_crew.py:agent
"""

import os

from crewai import LLM, Agent, Crew, Task

from dragoman_agents import wrap

model = LLM(model=os.environ["MODEL"], provider="openai", max_retries=0)
writer = Agent(role="Writer", goal="Answer in one line", backstory="You are brief.", llm=model)
task = Task(description="{text}", expected_output="One line", agent=writer)


async def kickoff(text: str) -> object:
    """Answers questions in one line."""
    return await Crew(agents=[writer], tasks=[task]).kickoff_async(inputs={"text": text})


agent = wrap(
    kickoff, "crew", answer=lambda result: result.raw, usage=lambda result: result.token_usage
)
