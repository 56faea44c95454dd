"""Linear heads trained by gradient, task after task: with elastic weight consolidation, with a replay buffer, and on everything at once.

All minimise the cross-entropy of a softmax over x·W + b by Adam, on the classes met so far, in the same number of passes.

- `Ewc`     the task alone, and a quadratic pull to the weights before it in proportion to their diagonal Fisher information, summed over
            tasks (Kirkpatrick et al. 2017, arXiv:1612.00796)
- `Replay`  the task and a reservoir sample of all that came before (Vitter's algorithm R), both shuffled together
- `Probe`   everything at once, which no stream allows: the upper reference. Its weight decay is chosen on validation rows
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.scoreboard.heads import Floats, Labels, accuracy

EPOCHS, BATCH, RATE = 30, 128, 0.02
BUFFER = 2_000  # rows that the replay may keep
PULLS = (1.0, 1e2, 1e4, 1e6)  # λ of EWC
DECAYS = (0.0, 1e-5, 1e-4, 3e-4, 1e-3)
SCALE = 10.0  # unit rows are short for a softmax

Penalty = Callable[[Tensor, Tensor], Tensor]


class Linear:
    """Weights and what trains them. `seed` shuffles."""

    def __init__(self, width: int, classes: int, seed: int = 0) -> None:
        self.weights, self.bias = torch.zeros(classes, width), torch.zeros(classes)
        self.met = np.zeros(classes, bool)
        self._random = torch.Generator().manual_seed(seed)

    def fit(self, x: Floats, y: Labels, penalty: Penalty | None = None, *, epochs: int = EPOCHS) -> None:
        """Minimise the cross-entropy on these rows, and the penalty."""
        self.met[np.unique(y)] = True
        closed = torch.from_numpy(~self.met)
        rows, right = torch.from_numpy(np.ascontiguousarray(x)) * SCALE, torch.from_numpy(np.asarray(y))
        weights, bias = self.weights.clone().requires_grad_(), self.bias.clone().requires_grad_()
        optimiser = torch.optim.Adam([weights, bias], lr=RATE)
        steps = epochs * -(-len(rows) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(epochs):
            order = torch.randperm(len(rows), generator=self._random)
            for some in (order[begin : begin + BATCH] for begin in range(0, len(order), BATCH)):
                loss = cross_entropy((rows[some] @ weights.T + bias).masked_fill(closed, -1e9), right[some])
                if penalty is not None:
                    loss = loss + penalty(weights, bias)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
        self.weights, self.bias = weights.detach(), bias.detach()

    def predict(self, x: Floats) -> Labels:
        """The largest logit among the classes met."""
        logits = (torch.from_numpy(np.ascontiguousarray(x)) * SCALE) @ self.weights.T + self.bias
        return np.asarray(logits.masked_fill(torch.from_numpy(~self.met), -torch.inf).argmax(1).numpy())


class Ewc(Linear):
    """Elastic weight consolidation."""

    def __init__(self, width: int, classes: int, pull: float, seed: int = 0) -> None:
        super().__init__(width, classes, seed)
        self._pull = pull
        self._fisher = torch.zeros(classes, width), torch.zeros(classes)

    def learn(self, x: Floats, y: Labels) -> None:
        """One task."""
        anchor, fisher = (self.weights, self.bias), self._fisher

        def penalty(weights: Tensor, bias: Tensor) -> Tensor:
            pairs = zip((weights, bias), anchor, fisher, strict=True)
            return torch.stack([(share * (now - then).square()).sum() for now, then, share in pairs]).sum() * (self._pull / 2)

        self.fit(x, y, penalty if bool(self._fisher[1].any()) else None)
        rows = torch.from_numpy(np.ascontiguousarray(x)) * SCALE
        logits = (rows @ self.weights.T + self.bias).masked_fill(torch.from_numpy(~self.met), -torch.inf)
        error = torch.softmax(logits, 1)
        error[torch.arange(len(rows)), torch.from_numpy(np.asarray(y))] -= 1  # the gradient of −log p by the logits
        squares = error.square()
        found = squares.T @ rows.square() / len(rows), squares.mean(0)
        self._fisher = fisher[0] + found[0], fisher[1] + found[1]


class Replay(Linear):
    """A reservoir of earlier rows."""

    def __init__(self, width: int, classes: int, buffer: int = BUFFER, seed: int = 0) -> None:
        super().__init__(width, classes, seed)
        self._buffer, self._seen = buffer, 0
        self._draw = np.random.default_rng(seed)
        self._x, self._y = np.empty((buffer, width), np.float32), np.empty(buffer, np.int64)

    def learn(self, x: Floats, y: Labels) -> None:
        """One task."""
        held = min(self._seen, self._buffer)
        self.fit(np.concatenate([x, self._x[:held]]), np.concatenate([y, self._y[:held]]))
        for row, label in zip(x, y, strict=True):
            place = self._seen if self._seen < self._buffer else int(self._draw.integers(self._seen + 1))
            if place < self._buffer:
                self._x[place], self._y[place] = row, label
            self._seen += 1


class Probe(Linear):
    """Everything at once."""

    def __init__(self, width: int, classes: int, decay: float, seed: int = 0) -> None:
        super().__init__(width, classes, seed)
        self._decay = decay

    def learn(self, x: Floats, y: Labels) -> None:
        """All tasks, as one."""
        self.fit(x, y, lambda weights, bias: self._decay * weights.square().sum())


def best_decay(x: Floats, y: Labels, valid_x: Floats, valid_y: Labels, classes: int) -> float:
    """The weight decay of the probe with the most validation rows right."""

    def right(decay: float) -> float:
        head = Probe(x.shape[1], classes, decay)
        head.learn(x, y)
        return accuracy(head.predict(valid_x), valid_y)

    return max(DECAYS, key=right)


def best_pull(tasks: list[tuple[Floats, Labels]], valid_x: Floats, valid_y: Labels, classes: int) -> float:
    """λ with the most validation rows right after the last task."""

    def right(pull: float) -> float:
        head = Ewc(tasks[0][0].shape[1], classes, pull)
        for x, y in tasks:
            head.learn(x, y)
        return accuracy(head.predict(valid_x), valid_y)

    return max(PULLS, key=right)
