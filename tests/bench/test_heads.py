"""The heads against independent closed forms, and what makes each of them itself."""

import numpy as np
import pytest

from bench.scoreboard.gradient_heads import Ewc, Probe, Replay
from bench.scoreboard.heads import ClassMean, Lda, NearestNeighbour, accuracy, best_klda, best_lda, fourier

CLASSES, WIDTH = 6, 16


def blobs(rows, seed, noise=0.2):
    """Unit rows around a direction for each class."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(CLASSES, WIDTH))
    y = np.arange(rows) % CLASSES
    x = centres[y] / np.linalg.norm(centres[y], axis=1, keepdims=True) + noise * np.random.default_rng(seed).normal(size=(rows, WIDTH))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def in_tasks(x, y, *tasks):
    return [(x[np.isin(y, task)], y[np.isin(y, task)]) for task in tasks]


TASKS = [0, 1], [2, 3], [4, 5]


def test_nearest_neighbour_and_class_mean_are_what_they_say():
    (x, y), (asked, _) = blobs(60, 0), blobs(30, 1)
    nearest, mean = NearestNeighbour(), ClassMean(CLASSES)
    for part in in_tasks(x, y, *TASKS):
        nearest.learn(*part)
        mean.learn(*part)
    assert nearest.predict(asked).tolist() == [y[np.argmin(((x - row) ** 2).sum(1))] for row in asked]
    centres = np.stack([x[y == label].mean(0) for label in range(CLASSES)])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    assert mean.predict(asked).tolist() == (asked @ centres.T).argmax(1).tolist()


def test_lda_is_gaussian_discrimination_with_the_pooled_covariance():
    (x, y), (asked, _) = blobs(240, 0), blobs(60, 1)
    head = Lda(CLASSES, 1e-2)
    head.learn(x, y)
    means = np.stack([x[y == label].mean(0) for label in range(CLASSES)]).astype(np.float64)
    deviations = x - means[y]
    within = deviations.T @ deviations / len(x)
    precision = np.linalg.inv(within + 1e-2 * np.trace(within) / WIDTH * np.eye(WIDTH))
    distance = np.stack([np.einsum("nw,wv,nv->n", asked - mean, precision, asked - mean) for mean in means], 1)
    assert head.predict(asked).tolist() == distance.argmin(1).tolist()


@pytest.mark.parametrize("features", [lambda x: x, fourier(WIDTH, 2.0, features=200)], ids=["LDA", "KLDA"])
def test_closed_forms_know_the_same_in_any_order_of_tasks(features):
    (x, y), (asked, _) = blobs(240, 0), blobs(120, 1)
    said = []
    for order in (TASKS, TASKS[::-1], [[0, 1, 2, 3, 4, 5]]):
        head = Lda(CLASSES, 1e-2, features)
        for part in in_tasks(x, y, *order):
            head.learn(*part)
        said.append(head.predict(asked).tolist())
    assert said[0] == said[1] == said[2]


def test_heads_answer_with_classes_they_have_met_only():
    x, y = blobs(120, 0)
    (first, labels), *_ = in_tasks(x, y, [2, 3], [4, 5])
    for head in (NearestNeighbour(), ClassMean(CLASSES), Lda(CLASSES, 1e-2), Ewc(WIDTH, CLASSES, 1.0), Replay(WIDTH, CLASSES)):
        head.learn(first, labels)
        assert set(head.predict(x).tolist()) <= {2, 3}, type(head).__name__


def test_fourier_features_multiply_to_the_kernel():
    x, _ = blobs(20, 0)
    mapped = fourier(WIDTH, 1.5, features=60_000)(x)
    wanted = np.exp(-1.5 * ((x[:, None] - x[None]) ** 2).sum(-1))
    assert np.abs(mapped @ mapped.T - wanted).max() < 0.03


def test_hyperparameters_are_chosen_by_the_validation_rows():
    (x, y), valid = blobs(120, 0), blobs(60, 1)
    ridge = best_lda(x, y, *valid, CLASSES)

    def right(ridge):
        head = Lda(CLASSES, ridge)
        head.learn(x, y)
        return accuracy(head.predict(valid[0]), valid[1])

    assert right(ridge) >= max(right(1e-4), right(1e-1))
    beta, ridge = best_klda(x, y, *valid, CLASSES, 100)

    def right_at(beta, ridge):
        head = Lda(CLASSES, ridge, fourier(WIDTH, beta, features=100))
        head.learn(x, y)
        return accuracy(head.predict(valid[0]), valid[1])

    assert right_at(beta, ridge) >= max(right_at(1.0, 1e-4), right_at(4.0, 1e-4), right_at(2.0, 1e-1))


def test_joint_probe_learns_what_a_linear_head_can():
    (x, y), (asked, right) = blobs(300, 0), blobs(120, 1)
    probe = Probe(WIDTH, CLASSES, 1e-6)
    probe.learn(x, y)
    assert accuracy(probe.predict(asked), right) > 0.95


def test_replay_keeps_a_fair_sample_and_forgets_less_than_a_head_without():
    (x, y), (asked, right) = blobs(300, 0), blobs(120, 1)
    old = np.isin(right, TASKS[0])
    replay, bare = Replay(WIDTH, CLASSES, buffer=60), Replay(WIDTH, CLASSES, buffer=1)
    for part in in_tasks(x, y, *TASKS):
        replay.learn(*part)
        bare.learn(*part)
    kept = np.bincount(replay._y, minlength=CLASSES)
    assert kept.sum() == 60
    assert kept.min() >= 2
    assert accuracy(replay.predict(asked[old]), right[old]) > 0.15 + accuracy(bare.predict(asked[old]), right[old])


def test_elastic_weights_hold_where_the_fisher_information_is():
    (x, y), (asked, right) = blobs(300, 0), blobs(120, 1)
    tasks = in_tasks(x, y, *TASKS)
    old = np.isin(right, TASKS[0])

    def moved(pull):
        head = Ewc(WIDTH, CLASSES, pull)
        head.learn(*tasks[0])
        before = head.weights[:2].clone()
        head.learn(*tasks[1])
        return float((head.weights[:2] - before).norm()), accuracy(head.predict(asked[old]), right[old])

    assert moved(1e4)[0] < 0.5 * moved(0.0)[0]
    assert moved(1e4)[1] >= moved(0.0)[1]
