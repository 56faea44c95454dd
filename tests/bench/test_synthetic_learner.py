"""The learner: honest scores, a stop at the right time, the best weights, any model; and every kind of model gives what it needs."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from bench.synthetic import kinds
from bench.synthetic.autoencoder import Autoencoder
from bench.synthetic.languages import BEYOND, language_task
from bench.synthetic.learner import Recipe, accuracy, learn, logits_of
from bench.synthetic.task import IGNORED, Examples, Task, full, percent_right

TINY = kinds.Size(32, 1)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def echo_task(rows=64, length=6, vocabulary=5):
    """The answer at a position is its token."""
    inputs = np.random.default_rng(0).integers(vocabulary, size=(rows, length))
    part = full(inputs, inputs.copy())
    return Task("echo", vocabulary, part, {"test": part}, {"test": part}, "rows")


class Copier(nn.Module):
    """Answers each token with itself."""

    def forward(self, ids):
        return functional.one_hot(ids, 5).float()


class Constant(nn.Module):
    """Answers 2 whatever it reads."""

    def forward(self, ids):
        return functional.one_hot(torch.full_like(ids, 2), 5).float()


class Table(nn.Module):
    """One learned answer for each token; `poison` turns its logits into NaN after so many calls in training."""

    def __init__(self, poison=None):
        super().__init__()
        self.table, self.poison, self.calls = nn.Embedding(5, 5), poison, 0

    def forward(self, ids):
        self.calls += self.training
        return self.table(ids) * (math.nan if self.poison is not None and self.calls > self.poison else 1.0)


def test_copier_gets_100_and_a_constant_does_not():
    test = echo_task().test["test"]
    assert accuracy(Copier(), test, "rows") == accuracy(Copier(), test, "positions") == 100.0
    assert accuracy(Constant(), test, "rows") == 0.0
    assert accuracy(Constant(), test, "positions") == pytest.approx(100 * (test.inputs == 2).mean())


def test_row_counts_only_when_all_its_answers_are_right_and_padding_is_not_asked():
    targets = np.array([[1, 2, 3], [1, 2, IGNORED], [1, IGNORED, IGNORED]])
    examples = Examples(np.zeros((3, 3), np.int64), targets, np.array([3, 2, 1]))
    answers = np.array([[1, 2, 0], [1, 2, 9], [1, 9, 9]])
    assert percent_right(answers, examples, "rows") == pytest.approx(200 / 3)
    assert percent_right(answers, examples, "positions") == pytest.approx(500 / 6)


def test_examples_that_do_not_agree_or_ask_nothing_are_refused():
    ids = np.zeros((2, 3), np.int64)
    with pytest.raises(ValueError, match="inputs, targets and lengths"):
        Examples(ids, ids[:, :2], np.array([3, 3]))
    with pytest.raises(ValueError, match="without a question"):
        full(ids, np.full_like(ids, IGNORED))


def test_lstm_learns_parity_of_short_words_and_goes_on_to_long_ones():
    task = language_task("parity", 0, trained=1_000, held=100, tested=200)
    model = kinds.make("lstm", "languages", task.vocabulary, task.longest, 0)
    learned = learn(model, task, Recipe(steps=600, batch=32, rate=2e-2, first=8, check_every=100), seed=0)
    assert learned.scores == {"bin0": 100.0, "bin1": 100.0}
    assert learned.solved
    assert learned.steps < 600


def test_hugging_face_model_learns_by_the_same_loop():
    config = LlamaConfig(vocab_size=5, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    learned = learn(LlamaForCausalLM(config), echo_task(), Recipe(steps=200, batch=32, rate=1e-2, warmup=10, check_every=20), seed=0)
    assert learned.scores["test"] == 100.0


def test_same_seed_gives_the_same_run_to_the_last_bit():
    def run():
        torch.manual_seed(3)
        model = Table()
        learn(model, echo_task(), Recipe(steps=30, batch=8, warmup=5, check_every=10), seed=3)
        return model.table.weight

    assert torch.equal(run(), run())


def test_training_ends_when_checks_in_a_row_are_perfect():
    learned = learn(Table(), echo_task(), Recipe(steps=2_000, batch=32, rate=0.1, warmup=1, check_every=10, calm=3), seed=0)
    assert learned.solved
    assert learned.steps % 10 == 0
    assert 30 <= learned.steps < 2_000


def test_loss_that_is_not_finite_ends_the_run_with_the_best_weights_and_says_when():
    model = Table(poison=45)
    learned = learn(model, echo_task(), Recipe(steps=500, batch=32, rate=0.1, warmup=1, check_every=10, calm=100), seed=0)
    assert learned.failed == "the loss is not finite at step 46"
    assert learned.best_step == 40
    assert not learned.solved
    assert torch.isfinite(model.table.weight).all()


def test_short_rows_come_first_and_the_limit_grows_to_the_longest():
    recipe = Recipe(steps=1_000, first=8, growing=0.5)
    assert [recipe.limit_at(step, 50) for step in (0, 250, 499, 500, 999)] == [8, 29, 50, 50, 50]
    assert Recipe(steps=1_000).limit_at(0, 50) == 50
    seen = []

    class Watching(Table):
        def forward(self, ids):
            seen.append(ids.shape[1])
            return super().forward(ids)

    task = language_task("parity", 0, trained=400, held=5, tested=5)
    learn(Watching(), task, Recipe(steps=20, batch=8, first=8, growing=1.0, check_every=20), seed=0)
    assert max(seen[:1]) <= 8
    assert max(seen[:10]) <= 29
    assert max(seen[:20]) > 30


def test_rate_warms_up_and_falls_to_a_hundredth():
    recipe = Recipe(steps=1_000, rate=1.0, warmup=100)
    assert [recipe.rate_at(step) for step in (0, 49, 99)] == pytest.approx([0.01, 0.5, 1.0])
    assert recipe.rate_at(550) == pytest.approx(0.505)
    assert recipe.rate_at(1_000) == pytest.approx(0.01)


@pytest.mark.parametrize("change", [{"steps": 0}, {"rate": -1.0}, {"growing": 1.5}, {"calm": 0}, {"noise": -0.1}])
def test_bad_recipes_are_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Recipe(**change)


@pytest.mark.parametrize("kind", kinds.names())
def test_every_kind_answers_each_position_from_what_came_before_it(kind):
    model = kinds.make(kind, "languages", 5, 12, 0, size=TINY).eval()
    ids = torch.randint(5, (2, 12), generator=torch.Generator().manual_seed(0))
    later = ids.clone()
    later[:, 9] = (ids[:, 9] + 1) % 5
    with torch.no_grad():
        one, other = logits_of(model, ids), logits_of(model, later)
    assert one.shape == (2, 12, 5)
    torch.testing.assert_close(one[:, :9], other[:, :9], atol=1e-5, rtol=0)
    assert not torch.equal(one[:, 9:], other[:, 9:])


@pytest.mark.parametrize("kind", kinds.names())
def test_decoder_reads_every_token_from_the_last_state(kind):
    model = Autoencoder(kinds.make(kind, "mad", 16, 8, 0, size=TINY), 16, TINY.width, 8)
    ids = torch.randint(16, (2, 8), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % 16
    with torch.no_grad():
        one, other = model(ids), model(changed)
    assert one.shape == (2, 8, 16)
    assert (one[0] != other[0]).any(dim=-1).all()  # also at the first position: it is no answer from left to right
    torch.testing.assert_close(one[1], other[1], atol=1e-5, rtol=0)


def test_model_without_visible_hidden_states_cannot_compress():
    with pytest.raises(ValueError, match="Copier has neither lm_head nor norm"):
        Autoencoder(Copier(), 16, 32, 8)


def test_hope_counts_with_one_head_and_turns_around_with_another_on_languages_and_is_usual_elsewhere():
    tracking = kinds.make("hope", "languages", 5, 12, 0, size=TINY).config.titans_config()
    assert tracking.head_rules == ("hebbian", "dgd")
    assert tracking.chunk_memory == 1
    assert tracking.chunk_projections > BEYOND[1]
    assert tracking.learners == ("k", "v", "eta", "alpha", "mem")
    assert kinds.make("hope moving", "languages", 5, 12, 0, size=TINY).config.titans_config().chunk_projections == 1
    usual = kinds.make("hope", "mad", 16, 12, 0, size=TINY).config.titans_config()
    assert (usual.head_rules, usual.targets) == ((), "self")
    assert usual.chunk_memory > 1


def test_noise_is_added_to_tokens_in_training_only_the_same_for_the_same_seed():
    def run(noise):
        torch.manual_seed(3)
        model = Table()
        learned = learn(model, echo_task(), Recipe(steps=30, batch=8, warmup=5, check_every=10, noise=noise), seed=3)
        return model.table.weight.detach().clone(), learned.scores["test"], accuracy(model, echo_task().test["test"], "rows")

    plain, noisy = run(0.0), run(0.5)
    assert torch.equal(noisy[0], run(0.5)[0])
    assert not torch.equal(plain[0], noisy[0])
    assert noisy[1] == noisy[2]  # what was scored is what the model says without noise


def test_unknown_kind_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"'gru'.*lstm"):
        kinds.make("gru", "languages", 5, 12, 0)
