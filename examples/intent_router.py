"""Support requests go to teams; then a policy changes, and what was learned before must not come back.

    python examples/intent_router.py

Each request is routed by what the memory says, and by nobody (`triage`) where it is silent. A dispatcher corrects what went to the wrong
team. In the middle, lost cards move from `cards` to `fraud`: one correction says so, with the old answer as `wrong`, and every wording
follows.
"""

import tempfile

from palimpsest import Client

TAUGHT = {
    "I lost my card yesterday.": "cards",
    "My new card has not arrived.": "cards",
    "Why was I charged twice?": "payments",
    "My transfer has not been received.": "payments",
    "I want to close my account.": "retention",
}

REWORDED = [
    ("I have lost my bank card.", "cards"),
    ("I was charged twice for one thing, why?", "payments"),
    ("How do I close my account with you?", "retention"),
]

AFTERWARDS = ["I lost my card yesterday.", "I have lost my bank card.", "My card is lost, I cannot find it."]


def route(memory: Client, request: str) -> str:
    """The team that takes the request."""
    return memory.recall(request).value or "triage"


def main() -> None:
    """Learn the teams, ask in other words, move one topic, ask again."""
    with tempfile.TemporaryDirectory() as directory, Client.embedded(directory) as memory:
        for request, team in TAUGHT.items():
            went = route(memory, request)
            if went != team:
                memory.correct(request, team, wrong=None if went == "triage" else went)
        for request, team in REWORDED:
            print(f"{request} -> {route(memory, request)} (should be {team})")

        saved = memory.take_snapshot(label="before lost cards moved")
        memory.correct("I lost my card yesterday.", "fraud", wrong="cards")
        print("\nLost cards go to the fraud team from now on.")
        for request in AFTERWARDS:
            print(f"{request} -> {route(memory, request)}")
        print(f"My new card has not arrived. -> {route(memory, 'My new card has not arrived.')} (unchanged)")

        memory.rollback(saved.id)
        print(f"\nRolled back: {AFTERWARDS[0]} -> {route(memory, AFTERWARDS[0])}")


if __name__ == "__main__":
    main()
