"""A coding agent that is told once how things are done here, and from then on does them so, however the task is worded.

    python examples/coding_agent.py

The agent is the loop that most have: recall, put what is remembered into the prompt, let a model propose a command, try it. The model
here is a stand-in that needs no network: it follows what the prompt says was remembered, and has the habits of its training where there
is nothing. Put your own call into `model`. What a person says of a command that the repository does not allow is in `REVIEW`.
"""

import json
import tempfile

from palimpsest import Client

HABITS = {
    "test": "pytest",
    "depend": "pip install httpx",
    "format": "black .",
    "librar": "pip install httpx",
    "packag": "pip install httpx",
}

REVIEW = {
    "Run the tests.": "make test",
    "Add httpx as a dependency.": "uv add httpx",
    "Format the code.": "make format",
}

LATER = [
    ("Please run all unit tests again.", "make test"),
    ("Can you execute the test suite?", "make test"),
    ("Add the httpx library as a dependency of the project.", "uv add httpx"),
    ("Reformat the source code.", "make format"),
]


def model(prompt: str) -> str:
    """Stands for a language model: what was remembered, else a habit."""
    remembered = [line.removeprefix("- ") for line in prompt.splitlines() if line.startswith('- "')]
    if remembered:
        return str(json.loads(remembered[0]))
    task = prompt.splitlines()[-1].lower()
    return next((habit for word, habit in HABITS.items() if word in task), "ls")


def main() -> None:
    """Two days at work: on the first it is corrected, on the second it is not."""
    with tempfile.TemporaryDirectory() as directory, Client.embedded(directory) as memory:
        print("The first day")
        for task, allowed in REVIEW.items():
            turn = memory.remembered(task)
            turn.said = model(f"{turn.note}\n\n{task}")
            print(f"  {task} -> {turn.said}", end="")
            if turn.said == allowed:
                print()
                continue
            turn.correct(allowed)
            print(f"   (corrected: {allowed})")
        print("The second day")
        mistakes = 0
        for task, allowed in LATER:
            turn = memory.remembered(task)
            said = model(f"{turn.note}\n\n{task}")
            mistakes += said != allowed
            print(f"  {task} -> {said}")
        print(f"{mistakes} of {len(LATER)} commands were wrong again")


if __name__ == "__main__":
    main()
