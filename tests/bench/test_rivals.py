"""The rivals on vectors that one can follow by eye."""

import numpy as np
import pytest

from bench.rivals import RIVALS, ExactMatch, NoMemory, VectorStore
from bench.vectors import RememberedEncoder, Vectors, encode_all

ANGLES = {"a": 0, "near a": 10, "between": 44, "near b": 80, "b": 90}


def vectors_of(angles):
    keys = np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))] for angle in angles.values()], np.float32)
    return Vectors({text: place for place, text in enumerate(angles)}, keys, [3] * len(angles), "d" * 64)


VECTORS = vectors_of(ANGLES)


async def taught(memory, *lessons):
    for text, right in lessons:
        await memory.tell(text, right, None)
    return memory


async def test_no_memory_stays_silent():
    memory = await taught(NoMemory(), ("a", "A"))
    assert await memory.ask("a") is None


async def test_dictionary_knows_the_very_words_and_their_newest_answer():
    memory = await taught(ExactMatch(), ("a", "old"), ("a", "new"))
    assert await memory.ask("a") == "new"
    assert await memory.ask("near a") is None


async def test_best_match_answers_with_the_nearest_entry_and_is_silent_when_empty():
    memory = VectorStore(VECTORS)
    assert await memory.ask("a") is None
    await taught(memory, ("a", "A"), ("b", "B"))
    assert [await memory.ask(text) for text in ("near a", "between", "near b")] == ["A", "A", "B"]


async def test_vote_is_won_by_similarity_in_sum():
    few, many = (("near a", "A"), ("between", "B")), (("near a", "A"), ("between", "B"), ("near b", "B"))
    assert await (await taught(VectorStore(VECTORS), *many)).ask("near a") == "A"
    assert await (await taught(VectorStore(VECTORS, voters=10), *few)).ask("near a") == "A"  # 1 against cos 34° = .83
    assert await (await taught(VectorStore(VECTORS, voters=10), *many)).ask("near a") == "B"  # 1 against .83 + .34


async def test_only_as_many_vote_as_may():
    crowd = ("near a", "A"), ("between", "B"), ("near b", "B"), ("b", "B")
    assert await (await taught(VectorStore(VECTORS, voters=2), *crowd)).ask("near a") == "A"


async def test_newer_entry_is_preferred_where_the_older_is_hardly_nearer():
    lessons = ("a", "old"), ("near a", "new")
    assert await (await taught(VectorStore(VECTORS), *lessons)).ask("a") == "old"
    assert await (await taught(VectorStore(VECTORS, newer=0.1), *lessons)).ask("a") == "new"
    assert await (await taught(VectorStore(VECTORS, newer=0.1), ("a", "old"), ("b", "new"))).ask("a") == "old"


async def test_store_grows_with_what_it_is_told():
    memory = VectorStore(VECTORS)
    for _ in range(200):
        await memory.tell("a", "A", None)
    assert await memory.size_bytes() == 200 * 2 * 4
    assert await memory.ask("a") == "A"


@pytest.mark.parametrize(("name", "rival"), RIVALS, ids=[name for name, _ in RIVALS])
async def test_every_rival_starts_empty(name, rival):
    memory = rival(VECTORS)
    assert await memory.ask("a") is None
    assert await memory.size_bytes() == 0


def test_remembered_vectors_are_the_encoders_own_bits(encoder):
    texts = ["Where is my card?", "I want to change my PIN, please.", "Where is my card?"]
    counted = []
    vectors = encode_all(encoder, texts, counted.append)
    remembered = RememberedEncoder(vectors.only(texts[:2]))
    expected = encoder.encode([texts[1]])
    got = remembered.encode([texts[1]])
    assert got.vectors.tobytes() == expected.vectors.tobytes()
    assert (got.tokens, remembered.digest, remembered.width) == (expected.tokens, encoder.digest, encoder.width)
    assert sum(counted) == len(vectors.places) == 2
    with pytest.raises(KeyError):
        remembered.encode(["never seen"])
