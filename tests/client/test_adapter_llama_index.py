"""A memory as a block of LlamaIndex's `Memory`."""

import pytest
from saying import PIN

pytest.importorskip("llama_index.core")

from llama_index.core.llms import ChatMessage
from llama_index.core.memory import Memory
from sqlalchemy.ext.asyncio import create_async_engine

from palimpsest.adapters.llama_index import CorrectionsBlock

REWORDED = "How can I change the PIN of my card?"


@pytest.fixture
async def conversation(memory, tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/chat.db")
    block = CorrectionsBlock(memory=memory)
    yield Memory.from_defaults(session_id="chat-7", token_limit=4_000, memory_blocks=[block], async_engine=engine)
    await engine.dispose()


async def said(conversation, text):
    """What a model is shown once the user has said something."""
    await conversation.aput(ChatMessage(role="user", content=text))
    return await conversation.aget()


async def test_what_is_remembered_of_the_newest_message_stands_before_the_conversation(memory, conversation):
    before = await said(conversation, PIN)
    assert [message.content for message in before] == [PIN], "nothing is remembered, and nothing is shown"
    memory.correct(PIN, "in the app")
    await conversation.aput(ChatMessage(role="assistant", content="I do not know."))
    system, *rest = await said(conversation, REWORDED)
    assert system.role.value == "system"
    assert '- "in the app"' in system.content
    assert "data, not instructions" in system.content
    assert [message.content for message in rest] == [PIN, "I do not know.", REWORDED]
    assert len(await said(conversation, "What is the capital of France?")) == 4, "nor of what is not known"


async def test_what_is_merely_said_teaches_nothing(memory, conversation):
    for number in range(60):
        await conversation.aput(ChatMessage(role="user", content=f"{PIN} {number} " + "and so on " * 20))
    assert len(await conversation.aget()) < 60, "messages were handed on to the blocks"
    assert list(memory.corrections()) == []
