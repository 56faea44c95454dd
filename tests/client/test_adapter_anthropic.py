"""A memory behind Anthropic's memory tool: its six commands, as the package's own tool runner sends them."""

import json

import pytest
from doors import saying, told

from palimpsest import Client

pytest.importorskip("anthropic")

from anthropic import Anthropic
from anthropic.lib.tools import ToolError

from palimpsest.adapters.anthropic import MemoryTool

NOTES = "/memories/notes.txt"


@pytest.fixture
def tool(memory) -> MemoryTool:
    return MemoryTool(memory)


def do(tool, command, **arguments):
    return tool.call({"command": command, **arguments})


def test_file_is_created_read_changed_moved_and_deleted(tool):
    assert do(tool, "view", path="/memories").endswith("0B\t/memories")
    assert do(tool, "create", path=NOTES, file_text="one\ntwo\nthree\n") == f"File created successfully at: {NOTES}"
    assert do(tool, "view", path=NOTES).splitlines()[1:] == ["     1\tone", "     2\ttwo", "     3\tthree", "     4\t"]
    assert do(tool, "view", path=NOTES, view_range=[2, 3]).splitlines()[1:] == ["     2\ttwo", "     3\tthree"]
    assert "     2\t2" in do(tool, "str_replace", path=NOTES, old_str="two", new_str="2")
    do(tool, "insert", path=NOTES, insert_line=0, insert_text="zero\n")
    assert [line[7:] for line in do(tool, "view", path=NOTES).splitlines()[1:]] == ["zero", "one", "2", "three", ""]
    do(tool, "rename", old_path=NOTES, new_path="/memories/old/notes.txt")
    with pytest.raises(ToolError, match="does not exist"):
        do(tool, "view", path=NOTES)
    assert "zero" in do(tool, "view", path="/memories/old/notes.txt")
    do(tool, "delete", path="/memories/old/notes.txt")
    with pytest.raises(ToolError, match="does not exist"):
        do(tool, "view", path="/memories/old/notes.txt")


def test_folder_lists_two_levels_with_sizes_and_goes_with_what_is_in_it(tool):
    for path, text in (("a.md", "12345"), ("team/b.md", "1"), ("team/deep/c.md", "x" * 2_048), ("teams.md", "1")):
        do(tool, "create", path=f"/memories/{path}", file_text=text)
    assert do(tool, "view", path="/memories").splitlines()[1:] == [
        "2.0K\t/memories",
        "5B\t/memories/a.md",
        "2.0K\t/memories/team/",
        "1B\t/memories/team/b.md",
        "2.0K\t/memories/team/deep/",
        "1B\t/memories/teams.md",
    ]
    do(tool, "rename", old_path="/memories/team", new_path="/memories/group")
    assert "group/deep/c.md" in do(tool, "view", path="/memories/group/")[-100:] or "deep/c.md" in do(tool, "view", path="/memories/group")
    do(tool, "delete", path="/memories/group")
    assert [line.split("\t")[1] for line in do(tool, "view", path="/memories").splitlines()[2:]] == ["/memories/a.md", "/memories/teams.md"]
    tool.clear_all_memory()
    assert len(do(tool, "view", path="/memories").splitlines()) == 2


def test_every_version_is_a_correction_that_one_can_roll_back(memory, tool):
    do(tool, "create", path=NOTES, file_text="Ship on Fridays.")
    saved = memory.take_snapshot()
    do(tool, "str_replace", path=NOTES, old_str="Fridays", new_str="Mondays")
    assert [(each.right, each.wrong, each.status) for each in memory.corrections()] == [
        ("Ship on Fridays.", None, "superseded"),
        ("Ship on Mondays.", "Ship on Fridays.", "active"),
    ]
    memory.rollback(saved.id)
    assert "Fridays" in do(tool, "view", path=NOTES)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ({"command": "view", "path": "/etc/passwd"}, "must start with /memories"),
        ({"command": "view", "path": "/memories/../etc"}, "must start with /memories"),
        ({"command": "view", "path": "/memoriesX"}, "must start with /memories"),
        ({"command": "view", "path": "/memories//a"}, "must start with /memories"),
        ({"command": "view", "path": "/memories/nothing"}, "does not exist"),
        ({"command": "create", "path": NOTES, "file_text": "again"}, "already exists"),
        ({"command": "create", "path": "/memories", "file_text": "x"}, "already exists"),
        ({"command": "create", "path": "/memories/empty", "file_text": ""}, "validation"),
        ({"command": "create", "path": "/memories/large", "file_text": "x" * 20_001}, "validation"),
        ({"command": "str_replace", "path": NOTES, "old_str": "nowhere", "new_str": "x"}, "did not appear verbatim"),
        ({"command": "str_replace", "path": NOTES, "old_str": "a", "new_str": "x"}, "Multiple occurrences .* lines: 1, 2"),
        ({"command": "str_replace", "path": "/memories/nothing", "old_str": "a", "new_str": "x"}, "does not exist"),
        ({"command": "insert", "path": NOTES, "insert_line": 3, "insert_text": "x"}, r"range \[0, 2\]"),
        ({"command": "delete", "path": "/memories"}, "Cannot delete"),
        ({"command": "delete", "path": "/memories/nothing"}, "does not exist"),
        ({"command": "rename", "old_path": "/memories/nothing", "new_path": "/memories/x"}, "does not exist"),
        ({"command": "rename", "old_path": "/memories/other", "new_path": NOTES}, "already exists"),
        ({"command": "rename", "old_path": "/memories/other", "new_path": "/memories/other/x"}, "Cannot rename"),
    ],
)
def test_command_that_cannot_be_done_says_why_and_changes_nothing(memory, tool, command, why):
    do(tool, "create", path=NOTES, file_text="a\na\n")
    do(tool, "create", path="/memories/other", file_text="b")
    before = memory.memory().digest
    with pytest.raises(ToolError, match=why):
        tool.call(command)
    assert memory.memory().digest == before


def test_key_that_may_not_forget_is_told_so(url, memory, bank, tool):
    do(tool, "create", path=NOTES, file_text="a")
    banks, scopes = [memory.get_bank(bank).id], ["recall:read", "corrections:write", "memory:inspect"]
    with Client(url, api_key=memory.mint_key("writer", scopes, banks=banks).key) as writer, pytest.raises(ToolError, match="forbidden"):
        do(MemoryTool(writer), "delete", path=NOTES)
    assert "a" in do(tool, "view", path=NOTES)


def message(*content, stop):
    usage = {"input_tokens": 1, "output_tokens": 1}
    whole = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": list(content), "stop_reason": stop, "usage": usage}
    return told(200, whole | {"stop_sequence": None}, Content_Type="application/json")


def test_tool_runner_of_the_package_performs_what_the_model_asks_for(memory, tool):
    uses = [
        {"type": "tool_use", "id": f"use_{number}", "name": "memory", "input": command}
        for number, command in enumerate(
            [{"command": "create", "path": NOTES, "file_text": "Ana likes tea."}, {"command": "view", "path": "/memories/none"}]
        )
    ]
    with (
        saying(message(*uses, stop="tool_use"), message({"type": "text", "text": "Noted."}, stop="end_turn")) as door,
        Anthropic(base_url=door.url, api_key="x", max_retries=0) as client,
    ):
        runner = client.beta.messages.tool_runner(
            model="m", max_tokens=100, tools=[tool], messages=[{"role": "user", "content": "Ana likes tea."}]
        )
        assert runner.until_done().content[0].text == "Noted."
        first, second = (asked.json() for asked in door.asked)
    assert first["tools"] == [{"type": "memory_20250818", "name": "memory"}]
    results = {
        each["tool_use_id"]: (each.get("is_error", False), json.dumps(each["content"])) for each in second["messages"][-1]["content"]
    }
    assert results["use_0"][0] is False
    assert (results["use_1"][0], "does not exist" in results["use_1"][1]) == (True, True)
    assert memory.recall(NOTES).value == "Ana likes tea."
