"""Which inputs are the same words, and which are not however alike they look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.linking import input_hash
from service.store.wording import same_words

SAME = [
    ("Where do I change my PIN?", "where do i change  my pin"),
    ("Create a new user with the specified shell", "Create new user with specified shell"),
    ("Show command-line options", "show command line options."),
    ("Don't stop!", "don’t stop"),
    ("Send files to the recycle bin (use `t`)", "Send files to the recycle bin (use t)"),
    ("“Où ?” — là", "Où — là"),
    ("Café", "Cafe\u0301"),
    ("PINをどこで変更しますか？", "PINをどこで変更しますか"),
]
OTHER = [
    ("Copy a file from the device", "Copy a file to the device"),
    ("Convert PNG to JPEG", "Convert JPEG to PNG"),
    ("Do not delete it", "Do delete it"),
    ("What is C++?", "What is C?"),
    ("grep -V", "grep -v"),
    ("open /etc/Hosts", "open /etc/hosts"),
    ("Ignore .gitignore", "Ignore gitignore"),
    ("3.5 percent", "35 percent"),
    ("List users", "List groups"),
    ("Is x < y?", "Is x > y?"),
    ("re-sign it", "resign it"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_nobody_means_by_it_makes_no_other_words(one, other):
    assert same_words(one) == same_words(other)
    assert input_hash(one) == input_hash(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_may_mean_something_is_kept(one, other):
    assert same_words(one) != same_words(other)
    assert input_hash(one) != input_hash(other)


@pytest.mark.parametrize("text", ["?", "the", "The a", "()", "``", ".", "...", "-", "«»", "   ", "\u00a0"])
def test_a_text_of_signs_alone_is_not_taken_for_another(text):
    assert same_words(text)
    assert len({same_words(other) for other in ("?", "the", "()", ".", "-")}) == 5


@given(st.text())
def test_the_same_words_are_found_again_in_what_is_left_of_them(text):
    assert bool(same_words(text)) == bool(text)
    assert same_words(text) == same_words(text)
    assert same_words(f" {text} ") == same_words(text) or not text.strip()


@given(st.lists(st.from_regex(r"[a-zäöü]{1,8}", fullmatch=True), min_size=1, max_size=6), st.data())
def test_capitals_spaces_and_marks_around_words_never_matter(words, data):
    around = st.sampled_from(["{}", "{},", "({})", "“{}”", "`{}`", "{}?", "{}.", '"{}"'])
    written = [data.draw(around).format(data.draw(st.sampled_from([word, word.capitalize(), word.upper()]))) for word in words]
    spaces = data.draw(st.sampled_from([" ", "  ", "\n", " \t"]))
    assert same_words(spaces.join(written)) == same_words(" ".join(words))
