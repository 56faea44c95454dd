"""Scores: nats over the bytes that are really covered; windows and streams; the model is left as it was."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from train_little import TEXT, llama

from model.train.evaluate import Score, Scorer
from model.train.tokens import ByteTokenizer, CharTokenizer, train_bpe


class Uniform(nn.Module):
    """Knows nothing: every token is as likely as every other."""

    def __init__(self, vocabulary):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, input_ids, use_cache=False):
        return SimpleNamespace(logits=self.scores.expand(*input_ids.shape, -1))


class Recurrent(nn.Module):
    """A model with a state of its own, under HOPE's name for it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.mix, self.head = nn.Embedding(256, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 256)

    def forward(self, input_ids, state=None, use_cache=False):
        hidden, state = self.mix(self.embed(input_ids), state)
        return SimpleNamespace(logits=self.head(hidden), state=state if use_cache else None)


def test_uniform_model_pays_eight_bits_per_byte():
    ids = ByteTokenizer().encode(TEXT + "Ä∇")
    scorer = Scorer(ByteTokenizer())
    for score in (scorer.windows(Uniform(256), ids, batch=3, context=7), scorer.windows(Uniform(256), ids, batch=3, context=7, limit=200)):
        assert score.bits_per_byte == pytest.approx(8.0, abs=1e-6)
    assert scorer.windows(Uniform(256), ids, batch=3, context=7).bytes == len((TEXT + "Ä∇").encode()) - 1


def test_bits_per_byte_of_bpe_are_over_the_bytes_that_its_tokens_stand_for():
    tokenizer = train_bpe([TEXT], 300)
    text = TEXT + "Ä∇"
    ids = tokenizer.encode(text)
    score = Scorer(tokenizer).windows(Uniform(300), ids, batch=2, context=16)
    covered = len(text.encode()) - len(tokenizer.pieces[int(ids[0])])
    assert score.bytes == covered
    assert score.bits_per_byte == pytest.approx((len(ids) - 1) * math.log2(300) / covered)
    assert score.bits_per_character == pytest.approx((len(ids) - 1) * math.log2(300) / (covered - 3))  # Ä is 2 bytes, ∇ is 3


def test_characters_of_several_bytes_cost_less_per_byte_than_per_character():
    tokenizer = CharTokenizer("aä∇")
    score = Scorer(tokenizer).windows(Uniform(3), tokenizer.encode("aä∇ä"), batch=1, context=8)
    assert (score.tokens, score.characters, score.bytes) == (3, 3, 7)
    assert score.bits_per_byte == pytest.approx(3 * math.log2(3) / 7)


def test_windows_start_afresh_and_equal_a_plain_computation():
    model, ids = llama(), ByteTokenizer().encode(TEXT[:100])
    score = Scorer(ByteTokenizer()).windows(model, ids, batch=3, context=16)
    nats = 0.0
    with torch.no_grad():
        for start in range(0, 99, 16):
            row = ids[start : start + 17].long()
            nats += float(cross_entropy(model(input_ids=row[None, :-1]).logits[0], row[1:], reduction="sum"))
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.tokens == 99


@pytest.mark.parametrize("model", [llama(), Recurrent()], ids=["cache", "state"])
def test_stream_equals_one_pass_over_the_whole_text_however_it_is_cut(model):
    ids = ByteTokenizer().encode(TEXT[:50])
    scorer = Scorer(ByteTokenizer())
    whole = scorer.windows(model, ids, batch=1, context=64)
    for context in (1, 7, 64):
        assert scorer.stream(model, ids, context=context).nats == pytest.approx(whole.nats, rel=1e-5)
    assert scorer.windows(model, ids, batch=1, context=7).nats != pytest.approx(whole.nats, rel=1e-5)


def test_model_without_a_state_cannot_be_read_as_a_stream():
    with pytest.raises(ValueError, match="Uniform carries no state"):
        Scorer(ByteTokenizer()).stream(Uniform(256), ByteTokenizer().encode("text"), context=2)


def test_scoring_leaves_mode_and_gradients_as_they_were():
    model = llama()
    model.train()
    Scorer(ByteTokenizer()).windows(model, ByteTokenizer().encode(TEXT[:40]), batch=1, context=16)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_scores_of_texts_add_up():
    both = Score(2.0, 2, 4, 4) + Score(4.0, 2, 2, 2)
    assert (both.loss, both.bits_per_byte) == pytest.approx((1.5, 6.0 / math.log(2) / 6))


def test_text_of_one_token_is_refused():
    with pytest.raises(ValueError, match="a text of 1 tokens has nothing to foresee"):
        Scorer(ByteTokenizer()).windows(Uniform(256), ByteTokenizer().encode("a"), batch=1, context=4)
