"""A language model's state learns texts, reads conversations and goes on with them: what moves, what does not, and when it ends."""

import time

import pytest
import torch
from small_language import hope_in

from model.hope.state import difference
from model.language import END, LEARNED, Line, Reading, Sampling, exchange, opened, prompt
from model.language.speaker import CUT

LIKELIEST = Sampling()
TEXT = exchange("What is the gate code?", "The gate code is nine.")


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    return opened(hope_in(tmp_path_factory.mktemp("lm") / "hope"))


def talk(speaker, state, said=(), most=12, how=LIKELIEST):
    voice = Reading(state)
    for part in speaker.heard(prompt([Line("user", "What is the gate code?")]), said):
        voice = speaker.read(voice, part)
    return speaker.speak(voice, said, most, how)


def test_same_texts_give_the_same_state_bit_for_bit_and_others_another(speaker):
    one, other = speaker.initial(), speaker.initial()
    for text in (TEXT, exchange("Thanks.", None), TEXT):
        one, other = speaker.learned(one, text).state, speaker.learned(other, text).state
    assert speaker.save(one, "") == speaker.save(other, "")
    assert speaker.save(speaker.learned(one, TEXT).state, "") != speaker.save(one, "")


def test_saved_state_goes_on_bit_for_bit(speaker):
    lived = speaker.learned(speaker.initial(), TEXT * 3).state
    loaded = speaker.load(speaker.save(lived, ""))
    again = [speaker.learned(state, TEXT * 2).state for state in (lived, loaded)]
    assert difference(*again) == {}


def test_what_is_said_again_surprises_less(speaker):
    state, nats = speaker.initial(), []
    for _ in range(6):
        learned = speaker.learned(state, TEXT)
        state, nats = learned.state, [*nats, learned.surprise]
    assert nats[-1] < 0.8 * nats[0]


def test_reading_and_speaking_leave_the_state_as_it_was(speaker):
    state = speaker.learned(speaker.initial(), TEXT).state
    before = speaker.save(state, "")
    talk(speaker, state)
    speaker.learned(state, TEXT)
    assert speaker.save(state, "") == before


def test_answer_in_pieces_is_that_of_one_go_whether_the_voice_was_kept_or_read_again(speaker):
    state = speaker.learned(speaker.initial(), TEXT).state
    for how in (Sampling(), Sampling(temperature=1.0, top_p=0.9, seed=3)):
        _, whole, _ = talk(speaker, state, how=how)
        voice, said, ended = talk(speaker, state, most=5, how=how)
        if not ended:
            _, kept, _ = speaker.speak(voice, said, 12 - len(said), how)
            _, again, _ = talk(speaker, state, said, 12 - len(said), how)
            assert kept == again == whole


def test_seed_decides_what_is_drawn(speaker):
    drawn = {seed: tuple(talk(speaker, speaker.initial(), how=Sampling(1.5, 1.0, seed))[1]) for seed in (1, 2, 3)}
    assert len(set(drawn.values())) == 3
    assert tuple(talk(speaker, speaker.initial(), how=Sampling(1.5, 1.0, 2))[1]) == drawn[2]


def test_answer_ends_at_a_blank_line_and_at_a_stop(speaker):
    said = speaker.encode("nine" + END + "User:")
    assert speaker.text(said, Sampling(), whole=True) == "nine"
    assert speaker.text(speaker.encode("nine or ten"), Sampling(stop=(" or",)), whole=True) == "nine"


def test_text_that_may_go_on_shows_no_half_character_and_no_beginning_of_a_stop(speaker):
    half = speaker.encode("né")[:-1]
    assert speaker.text(half, Sampling(), whole=False) == "n"
    assert speaker.text(speaker.encode("nine\n"), Sampling(), whole=False) == "nine"
    assert speaker.text(speaker.encode("nine ST"), Sampling(stop=("STOP",)), whole=False) == "nine "


def test_long_text_is_read_in_bounded_parts_and_learned_up_to_a_bound(speaker):
    parts = speaker.parts("word " * 3_000)
    assert sum(map(len, parts)) == LEARNED
    assert max(map(len, parts)) == CUT
    assert speaker.parts("") == []


def test_surprise_is_counted_over_all_tokens_however_they_are_cut(speaker):
    tokens = speaker.encode(TEXT)
    whole = speaker.read(Reading(speaker.initial()), tokens)
    cut = speaker.read(speaker.read(Reading(speaker.initial()), tokens[:7]), tokens[7:])
    assert whole.tokens == cut.tokens == len(tokens)
    assert cut.surprise == pytest.approx(whole.surprise, rel=1e-4)
    assert speaker.read(Reading(speaker.initial()), tokens[:1]).surprise is None


def test_answer_is_judged_behind_its_question_alone(speaker):
    state = speaker.learned(speaker.initial(), TEXT * 4).state
    known, new = (speaker.unforeseen(state, "What is the gate code?", right) for right in ("The gate code is nine.", "Xyzzy, quux!"))
    assert known < new
    assert speaker.unforeseen(state, "Hi.", None) > 0
    broken = state.map(lambda tensor: tensor * torch.inf if tensor.is_floating_point() else tensor)
    assert speaker.unforeseen(broken, "Hi.", None) == float("inf")


def test_text_after_which_numbers_would_not_be_finite_teaches_nothing_each_time(speaker):
    state = speaker.learned(speaker.initial(), TEXT).state
    broken = state.map(lambda tensor: tensor * torch.inf if tensor.is_floating_point() else tensor)
    learned = speaker.learned(broken, TEXT)
    assert learned.surprise is None
    assert learned.state is broken


def test_text_of_nothing_but_blanks_is_told_at_once():
    begin = time.thread_time()
    assert exchange("a" + " \n" * 10_000 + "b", None) == "> a\n> b\n\n"
    assert time.thread_time() - begin < 0.5


def test_conversation_is_read_as_text_in_one_form():
    lines = [Line("system", "Be\n\nbrief."), Line("user", " Hi. "), Line("assistant", "Good\n \nday"), Line("tool", "42")]
    assert prompt(lines) == "# Be\n# brief.\n> Hi.\nGood\nday\n\n> 42\n"
    assert prompt(lines[:3]).endswith("> Hi.\nGood\nday")
    assert exchange("Hi.", None) == "> Hi.\n\n"
    assert prompt([Line("user", "Hi.")]) + "Good day." + END == exchange("Hi.", "Good day.")
