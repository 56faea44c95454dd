"""Which inputs are the same words, and which are not however alike they look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.wording import MOST, same_words

SAME = [
    ("Where do I change my PIN?", "where do i change  my pin"),
    ("Create a new user with the specified shell", "Create new user with specified shell"),
    ("A container is removed", "the container is removed"),
    ("Show command-line options", "show command line options."),
    ("state-of-the-art methods", "state of the art methods"),
    ("Don't stop!", "don’t stop"),
    ("Send files to the recycle bin (use `t`)", "Send files to the recycle bin (use t)"),
    ("Print the “first line”", "print first line"),
    ("Où est la carte ?", "Où est la carte?"),
    ("Café", "Cafe\u0301"),
    ("PINをどこで変更しますか？", "PINをどこで変更しますか"),
    ("كيف أغير الرمز؟", "كيف أغير الرمز"),
    ("Is it 3.5?", "is it 3.5"),
    ("What is C++?", "what is C++"),
    ("Open /etc/hosts.", "open /etc/hosts"),
]
OTHER = [
    ("Copy a file from the device", "Copy a file to the device"),
    ("Convert PNG to JPEG", "Convert JPEG to PNG"),
    ("Do not delete it", "Do delete it"),
    ("What is C++?", "What is C?"),
    ("grep -V", "grep -v"),
    ("press G", "press g"),
    ("what does dd do", "what does DD do"),
    ("open /etc/Hosts", "open /etc/hosts"),
    ("Ignore .gitignore", "Ignore gitignore"),
    ("Copy to .", "Copy to"),
    ("3.5 percent", "35 percent"),
    ("List users", "List groups"),
    ("Is x < y?", "Is x > y?"),
    ("Alert when load <5", "Alert when load >5"),
    ("cat <in", "cat >in"),
    ("What does the ! operator do?", "What does the ? operator do?"),
    ("escape ' in bash", 'escape " in bash'),
    ("what does : do in vim", "what does ; do in vim"),
    ("vim :q", "vim q"),
    ("What does :q! do?", "What does :q do?"),
    ("What does $? mean in bash", "What does $! mean in bash"),
    ("What does echo '$HOME' print?", 'What does echo "$HOME" print?'),
    ("What does echo '$HOME' print?", "What does echo $HOME print?"),
    ("what is 5!", "what is 5"),
    ("if a:\n  b\n  c", "if a:\n  b\nc"),
    ("history !5", "history 5"),
    ("a board of 5'", 'a board of 5"'),
    ("match [a]", "match {a}"),
    ("match [a]", "match"),
    ("Vitamin A dose", "Vitamin dose"),
    ("Team A: who leads it?", "Team: who leads it?"),
    ("press a", "press"),
    ("Is it a or the?", "Is it or an?"),
    ("say `the` word", "say word"),
    ("5 mW", "5 MW"),
    ("10 Mb", "10 MB"),
    ("What is CO?", "What is Co?"),
    ("what about US", "what about us"),
    ("plot with R", "plot with r"),
    ("Maßen", "Massen"),
    ("call f()", "call f"),
    ("re-sign it", "resign it"),
    ("👍", "👎"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_nobody_means_by_it_makes_no_other_words(one, other):
    assert same_words(one) == same_words(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_may_mean_something_is_kept(one, other):
    assert same_words(one) != same_words(other)


def test_a_text_of_signs_alone_is_not_taken_for_another():
    alone = ["?", "the", "a", "()", "``", ".", "..", "...", "-", "«»", "   ", "!"]
    assert all(same_words(text) for text in alone)
    assert len({same_words(text) for text in alone}) == len(alone)


def test_a_long_text_is_the_same_as_another_only_letter_by_letter():
    long = "Word " * (MOST // 5)
    assert same_words(long) == same_words(long.lower())
    assert same_words(long + "more") == long + "more"


@given(st.text())
def test_nothing_is_left_of_nothing_alone_and_what_is_left_is_the_same_words(text):
    left = same_words(text)
    assert bool(left) == bool(text)
    said = text.replace("\u200b", "").replace("\ufeff", "").strip()
    assert not said or "\n" in text or same_words(f" {text}\n") == left or len(text) + 2 > MOST


@given(st.lists(st.from_regex(r"[b-zäöü]{3,8}", fullmatch=True).filter(lambda word: word != "the"), min_size=1, max_size=6), st.data())
def test_capitals_spaces_and_marks_around_words_never_matter(words, data):
    around = st.sampled_from(["{}", "{},", "({})", "“{}”", "`{}`", "{}?", "{}.", '"{}"'])
    written = [data.draw(around).format(data.draw(st.sampled_from([word, word.capitalize(), word.upper()]))) for word in words]
    spaces = data.draw(st.sampled_from([" ", "  ", "\n", " \t"]))
    assert same_words(spaces.join(written)) == same_words(" ".join(words))
