"""Domains one after another: what a model that goes on learning forgets.

It learns the domains in turn, with as many tokens of each and none of an earlier one again. After each it is scored on the tails of all.
*Forgetting* is what the first domain costs at the end more than right after it was learned, in bits per byte; *gained* is what the model
had made of the others. Nothing here knows how a model learns or is scored: `learn` and `score` are functions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.language.corpora import Corpus
from model.train.batches import Batch, Batches

Learn = Callable[[Corpus, int], None]  # learn from a domain, which is the n-th (0, 1, 2, …)
Score = Callable[[Corpus], float]  # bits per byte on a domain's tail
Step = Callable[[Batch], object]  # one training step on a batch


@dataclass(frozen=True, slots=True)
class Continual:
    """`bits[p][d]`: bits per byte on domain d after p domains (row 0: before the first)."""

    domains: tuple[str, ...]
    bits: tuple[tuple[float, ...], ...]

    @property
    def forgetting(self) -> float:
        """Bits per byte on the first domain at the end minus right after it; negative where later domains helped."""
        return self.bits[-1][0] - self.bits[1][0]

    @property
    def final(self) -> float:
        """Bits per byte at the end, mean over the domains: what learning and not forgetting come to."""
        return sum(self.bits[-1]) / len(self.domains)


def in_turn(domains: Sequence[Corpus], learn: Learn, score: Score, after: Callable[[int], None] = lambda phase: None) -> Continual:
    """Learn the domains one after another. `after(n)` is called when n domains are learned and scored.

    Raises:
        ValueError: fewer than two domains.
    """
    if len(domains) < 2:
        raise ValueError(f"{len(domains)} domains cannot be learned one after another; name two at least")
    rows = [tuple(score(domain) for domain in domains)]
    for phase, domain in enumerate(domains):
        learn(domain, phase)
        rows.append(tuple(score(each) for each in domains))
        after(phase + 1)
    return Continual(tuple(domain.name for domain in domains), tuple(rows))


def by_steps(step: Step, batches_of: Callable[[Corpus], Batches], tokens: int) -> Learn:
    """A `Learn` that calls `step` on batches of a domain until `tokens` tokens are used up."""

    def learn(domain: Corpus, phase: int) -> None:
        draw, used, index = batches_of(domain), 0, 0
        while used < tokens:
            batch = draw(index)
            step(batch)
            used, index = used + batch.inputs.numel(), index + 1

    return learn
