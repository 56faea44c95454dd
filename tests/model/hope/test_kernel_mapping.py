"""T25: the chunk op as the recurrences that linear-attention kernels compute, S = Wᵀ (key, value) (hope.md §6.2).

Token by token in float64, from the kernels' own conventions (flash-linear-attention): the gated delta rule erases from what retention has
left, Comba from the state before. So the auxiliary key of Comba is η x, not (η/α) x. Both read after the write. The kernels themselves
are called where they can be imported and a GPU is there.
"""

import pytest
import torch

from model.hope.chunk import schedule, write_chunk

TOKENS, IN, OUT = 13, 6, 5


@pytest.fixture(params=[0.6, 1.9], ids=["small rates", "negative eigenvalues"])
def chunk(request):
    """Inputs x (T, in) of length 1, errors d (T, out), η and α (T,), and a start weight (out, in)."""
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = torch.nn.functional.normalize(drawn(TOKENS, IN), dim=-1)
    return x, drawn(TOKENS, OUT), request.param * torch.sigmoid(drawn(TOKENS)), torch.sigmoid(2.0 + drawn(TOKENS)), drawn(OUT, IN)


def gated_delta_rule(q, k, v, g, beta, state):
    """S ← eᵍ S;  S ← S + k ⊗ β (v − Sᵀ k);  read Sᵀ q."""
    reads = []
    for t in range(len(k)):
        state = g[t].exp() * state
        state = state + torch.outer(k[t], beta[t] * (v[t] - k[t] @ state))
        reads.append(q[t] @ state)
    return torch.stack(reads), state


def comba(q, k, p, v, g, beta, state):
    """S ← eᵍ S + k ⊗ β (v − Sᵀ p), S on the right as it was before;  read Sᵀ q."""
    reads = []
    for t in range(len(k)):
        state = g[t].exp() * state + torch.outer(k[t], beta[t] * (v[t] - p[t] @ state))
        reads.append(q[t] @ state)
    return torch.stack(reads), state


def ours(x, error, rate, retention, weight):
    """Final weight (out, in), and what each token's x reads before it is written (T, out)."""
    plan = schedule(rate, retention.log())
    done = write_chunk(plan, weight, None, x, error, erase=True)
    return done.weight, done.reads.at(plan, x)


def before_each(reads, query, weight):
    """Kernels read after the write: queries one token early give what ours reads, but for the first, which reads the start."""
    return torch.cat([(query[:1] @ weight.mT), reads[:-1]])


def early(query):
    """Each token asks what the next one will ask."""
    return query.roll(-1, 0)


def test_chunk_is_a_gated_delta_rule_with_rate_over_retention_as_beta(chunk):
    """T25."""
    x, error, rate, retention, weight = chunk
    final, read = ours(*chunk)
    reads, state = gated_delta_rule(early(x), x, -retention[:, None] * error, retention.log(), rate / retention, weight.mT)
    torch.testing.assert_close(state.mT, final, atol=1e-12, rtol=0)
    torch.testing.assert_close(before_each(reads, x, weight), read, atol=1e-12, rtol=0)


def test_chunk_is_comba_with_the_rate_in_the_auxiliary_key(chunk):
    """T25."""
    x, error, rate, retention, weight = chunk
    final, read = ours(*chunk)
    scaled = rate[:, None]
    reads, state = comba(early(x), x, scaled * x, -scaled * error, retention.log(), torch.ones_like(rate), weight.mT)
    torch.testing.assert_close(state.mT, final, atol=1e-12, rtol=0)
    torch.testing.assert_close(before_each(reads, x, weight), read, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["gated_delta_rule", "comba"])
def test_kernels_reproduce_the_chunk(name):
    """One head of width 64, 64 tokens, float32 on a GPU."""
    ops = pytest.importorskip(f"fla.ops.{name}")
    if not torch.cuda.is_available():
        pytest.skip("the kernels run on a GPU")
    generator = torch.Generator().manual_seed(5)
    x, error, weight = (torch.randn(*shape, generator=generator) for shape in ((64, 64), (64, 64), (64, 64)))
    x, rate, retention = torch.nn.functional.normalize(x, dim=-1), torch.rand(64, generator=generator), torch.full((64,), 0.99)
    final, _ = ours(x, error, rate, retention, weight)
    over = rate / retention
    fields = {
        "gated_delta_rule": {"v": -retention[:, None] * error, "beta": over},
        "comba": {"v": -rate[:, None] * error, "beta": torch.ones(64), "p": rate[:, None] * x},
    }[name]
    given = {"q": x, "k": x, "g": retention.log()} | fields
    batched = {field: value[None, :, None].cuda() for field, value in given.items()}  # (B, T, H, …)
    kernel = getattr(ops, f"chunk_{name}")
    _, state = kernel(**batched, scale=1.0, initial_state=weight.mT.contiguous()[None, None].cuda(), output_final_state=True)
    torch.testing.assert_close(state[0, 0].mT.cpu(), final, atol=2e-2, rtol=2e-2)
