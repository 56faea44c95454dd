"""For the OpenAI Agents SDK: `recall` and `correct` as tools, and a filter that shows the model what is remembered before it answers.

A `Session` of that SDK keeps what was said. A memory of corrections does not; use one of the SDK's own beside it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from palimpsest.adapters import missing
from palimpsest.adapters.speaking import Speaking
from palimpsest.client import Client

try:
    from agents import FunctionTool, function_tool
    from agents.run import CallModelData, ModelInputData
except ImportError as absent:
    raise missing("openai-agents") from absent


def memory_tools(memory: Client, *, top_k: int = 3) -> list[FunctionTool]:
    """The tools `recall` and `correct` over a memory, for `Agent(tools=...)`."""
    speaking = Speaking(memory, top_k)
    return [function_tool(speaking.recall), function_tool(speaking.correct)]


def remembering(memory: Client, *, top_k: int = 1) -> Callable[[CallModelData[Any]], Awaitable[ModelInputData]]:
    """For `RunConfig(call_model_input_filter=...)`: what is remembered of the newest user message goes below the agent's instructions.

    Nothing is added when the memory abstains.
    """

    async def with_note(call: CallModelData[Any]) -> ModelInputData:
        given = call.model_data
        situation = newest_said(given.input)
        note = (await asyncio.to_thread(memory.remembered, situation, top_k=top_k)).note if situation else ""
        parts = [part for part in (given.instructions, note) if part]
        return ModelInputData(input=given.input, instructions="\n\n".join(parts) or None)

    return with_note


def newest_said(items: Sequence[Any]) -> str:
    """The text of the newest message of the user; empty if there is none."""
    for item in reversed(items):
        if item.get("role") == "user":
            content = item.get("content", "")
            parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
            return "\n".join(part for part in parts if part.strip())
    return ""
