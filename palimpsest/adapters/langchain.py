"""Tools for agents of LangChain and LangGraph: `recall` and `correct`."""

from palimpsest.adapters import missing
from palimpsest.adapters.speaking import Speaking
from palimpsest.client import Client

try:
    from langchain_core.tools import BaseTool, StructuredTool
except ImportError as absent:
    raise missing("langchain") from absent


def memory_tools(memory: Client, *, top_k: int = 3) -> list[BaseTool]:
    """The tools `recall` and `correct` over a memory; agents that await run them in threads."""
    speaking = Speaking(memory, top_k)
    return [StructuredTool.from_function(speaking.recall), StructuredTool.from_function(speaking.correct)]
