"""A memory block of LlamaIndex: what is remembered of the newest user message, beside the conversation that `Memory` keeps."""

import asyncio

from palimpsest.adapters import missing
from palimpsest.client import Client

try:
    from llama_index.core.base.llms.types import ChatMessage, MessageRole
    from llama_index.core.bridge.pydantic import Field
    from llama_index.core.memory import BaseMemoryBlock
except ImportError as absent:
    raise missing("llama-index") from absent


class CorrectionsBlock(BaseMemoryBlock[str]):
    """For `Memory.from_defaults(memory_blocks=[CorrectionsBlock(memory=client)])`; empty when the memory abstains.

    Nothing is learned from what is merely said: messages that `Memory` hands on are passed over. Teach with `client.correct`.
    """

    name: str = Field(default="corrections", description="The name/identifier of the memory block.")
    memory: Client = Field(exclude=True, description="The memory that is asked.")
    top_k: int = Field(default=1, description="Answers that are shown at most.")

    async def _aget(self, messages: list[ChatMessage] | None = None, **_: object) -> str:
        asked = next((said.content for said in reversed(messages or []) if said.role == MessageRole.USER), None)
        if not asked or not asked.strip():
            return ""
        return (await asyncio.to_thread(self.memory.remembered, asked, top_k=self.top_k)).note

    async def _aput(self, messages: list[ChatMessage]) -> None:
        """Nothing is kept of them."""
