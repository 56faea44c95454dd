"""An agent that picks a tool for each request, and is corrected where it picked the wrong one.

    python examples/tool_choice.py

What it would pick by itself stands for a language model that chooses by the tools' descriptions: it takes the tool whose description
shares most words with the request. The memory is asked first; it speaks only where somebody corrected the agent in a like situation, so
nothing else changes.
"""

import re
import tempfile

from palimpsest import Client

TOOLS = {
    "web_search": "search the web for a page, news, weather or an answer to a question",
    "read_file": "read a file of the project, show its lines",
    "run_sql": "run a query on the database of orders and customers",
    "calendar": "create, move or look up a meeting in the calendar",
}

CORRECTIONS = {
    "Show me the newest orders of customer 4711.": "run_sql",
    "Search our handbook for the holiday rules.": "read_file",
}

ASKED = [
    "Show the latest orders that customer 4711 made.",
    "Search the handbook: what are our rules for holidays?",
    "What is the weather in Lisbon?",
    "Move the meeting with Ana to Friday.",
]


def by_description(request: str) -> str:
    """The agent's own choice."""
    words = set(re.findall(r"[a-z]+", request.lower()))
    return max(TOOLS, key=lambda tool: len(words & set(TOOLS[tool].split())))


def choose(memory: Client, request: str) -> tuple[str, str]:
    """A tool, and who chose it."""
    remembered = memory.recall(request).value
    return (remembered, "memory") if remembered in TOOLS else (by_description(request), "agent")


def main() -> None:
    """Correct two choices, then ask in other words."""
    with tempfile.TemporaryDirectory() as directory, Client.embedded(directory) as memory:
        for request, tool in CORRECTIONS.items():
            chosen, _ = choose(memory, request)
            if chosen != tool:
                memory.correct(request, tool, wrong=chosen)
                print(f"{request} {chosen} was wrong, {tool} is right")
        for request in ASKED:
            tool, who = choose(memory, request)
            print(f"{request} -> {tool} ({who})")


if __name__ == "__main__":
    main()
