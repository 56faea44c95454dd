"""How well an encoder serves a domain, by learners so plain that the figures are the vectors' own.

Intents, of which 6,000 texts are drawn where there are more: class means of 1, 5 and 10 texts a class (five draws), ridge regression over
the kernel exp(β(cos − 1)), and mistakes that the nearest entry makes on an answer taught before, in 2,000 requests (three orders).
Wordings: how many are nearest to the fact or entry they reword, and how well one threshold on the cosine parts them from another fact in
like words.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.start.comparing import Hits
from model.start.sources import Asked

SHOTS, DRAWS = (1, 5, 10), 5
TAUGHT, DRAWN_WITH = 6_000, 5  # texts of an intent domain that are taught, and the seed that draws them
WIDTH_OF_KERNEL, RIDGE = 6.0, 0.1
STREAM, ORDERS = 2_000, 3
THRESHOLDS = np.linspace(0.3, 0.99, 140)
BLOCK = 512  # questions in one product

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
Encode = Callable[[Sequence[str]], Vectors]
Figures = Mapping[str, float]
AVOIDABLE = "avoidable"
FEWER_IS_BETTER = frozenset({AVOIDABLE})


def judge(asked: Asked, encode: Encode) -> dict[str, Hits]:
    """Of each figure of a domain which questions were answered rightly; `avoidable`: without a mistake that could have been avoided."""
    return _judged_pairs(asked, encode) if asked.pairs else _judged_intents(asked, encode)


def figures(hits: Mapping[str, Hits]) -> Figures:
    """The figures of a domain: percentages, but `avoidable`, which is a number of mistakes of a stream."""
    shares = {name: 100 * float(some.right.mean()) for name, some in hits.items()}
    if AVOIDABLE in hits:
        shares[AVOIDABLE] = float((~hits[AVOIDABLE].right).sum()) / ORDERS
    return shares


def worse(before: Figures, after: Figures) -> list[str]:
    """The figures in which `after` is behind."""
    return [name for name, was in before.items() if (after[name] > was if name in FEWER_IS_BETTER else after[name] < was)]


def _judged_intents(asked: Asked, encode: Encode) -> dict[str, Hits]:
    drawn = np.random.default_rng(DRAWN_WITH).permutation(len(asked.learned))[:TAUGHT]
    taught = [asked.learned[at] for at in drawn]
    number = {intent: at for at, intent in enumerate(sorted({intent for _, intent in taught}))}
    labels = np.array([number[intent] for _, intent in taught])
    right = np.array([number.get(intent, -1) for _, intent in asked.asked])
    keys, questions = encode([text for text, _ in taught]), encode([text for text, _ in asked.asked])
    hits = {f"means_of_{shots}": _class_means(keys, labels, questions, right, shots) for shots in SHOTS}
    hits["ridge"] = _ridge(keys, labels, questions, right)
    return hits | {AVOIDABLE: _avoidable(keys, labels)}


def _class_means(keys: Vectors, labels: Labels, questions: Vectors, right: Labels, shots: int) -> Hits:
    hits = []
    for seed in range(DRAWS):
        draw = np.random.default_rng(seed)
        chosen = [draw.permutation(np.flatnonzero(labels == label))[:shots] for label in range(int(labels.max()) + 1)]
        means = np.stack([keys[rows].mean(axis=0) for rows in chosen])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        hits.append((questions @ means.T).argmax(axis=1) == right)
    return Hits(np.concatenate(hits), np.tile(np.arange(len(right)), DRAWS))


def _ridge(keys: Vectors, labels: Labels, questions: Vectors, right: Labels) -> Hits:
    kernel = np.exp(WIDTH_OF_KERNEL * (keys @ keys.T - 1.0)).astype(np.float64)
    kernel[np.diag_indices(len(keys))] += RIDGE
    weights = np.linalg.solve(kernel, np.eye(int(labels.max()) + 1)[labels])
    hits = []
    for begin in range(0, len(questions), BLOCK):
        some = slice(begin, begin + BLOCK)
        scores = np.exp(WIDTH_OF_KERNEL * (questions[some] @ keys.T - 1.0)) @ weights
        hits.append(scores.argmax(axis=1) == right[some])
    return Hits.once(np.concatenate(hits))


def _avoidable(keys: Vectors, labels: Labels) -> Hits:
    hits, asked = [], []
    for seed in range(ORDERS):
        order = np.random.default_rng(100 + seed).permutation(len(keys))[:STREAM]
        entries = np.empty((len(order), keys.shape[1]), np.float32)
        answers, size = np.empty(len(order), np.int64), 0
        spared = np.ones(len(order), bool)
        for place, at in enumerate(order):
            if size and answers[(entries[:size] @ keys[at]).argmax()] == labels[at]:
                continue
            spared[place] = labels[at] not in answers[:size]
            entries[size], answers[size], size = keys[at], labels[at], size + 1
        hits.append(spared)
        asked.append(order)
    return Hits(np.concatenate(hits), np.concatenate(asked))


def _judged_pairs(asked: Asked, encode: Encode) -> dict[str, Hits]:
    taught, reworded = encode([first for first, _ in asked.pairs]), encode([second for _, second in asked.pairs])
    nearest = np.concatenate([(reworded[at : at + BLOCK] @ taught.T).argmax(axis=1) for at in range(0, len(reworded), BLOCK)])
    first = {text: at for at, (text, _) in reversed(list(enumerate(asked.pairs)))}
    same = np.array([first[text] for text, _ in asked.pairs])  # entries that were taught in the same words are one
    hits = {"found": Hits.once(same[nearest] == same)}
    if asked.near:
        near = encode(asked.near)
        own = (taught * reworded).sum(axis=1)
        closest = np.concatenate([(near[at : at + BLOCK] @ taught.T).max(axis=1) for at in range(0, len(near), BLOCK)])
        best = max(THRESHOLDS, key=lambda at: float((own > at).mean() + (closest <= at).mean()))
        hits["parted"] = Hits.once(np.concatenate([own > best, closest <= best]))  # one near text for each pair
    return hits
