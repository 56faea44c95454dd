"""A memory in the shapes that other frameworks ask for, one module each: langgraph, langchain, openai_agents, llama_index, anthropic.

Each speaks to the service through a `Client` and imports its framework when it is imported itself, so none of them is needed for another.
"""


def missing(extra: str) -> ImportError:
    """What is raised when the framework of an adapter is not installed; `extra` names what brings it."""
    return ImportError(f"this adapter needs a package that is not installed; `pip install 'palimpsest[{extra}]'` brings it")
