"""The associative memory as it first was: one bank, one lesson after the other, in the order of the formulas. Its bits are the measure.

Snapshots and ledgers are out there that were folded so. `model/` computes the same numbers for many banks at once and in another order of
events; these bits it must keep. What is shared with `model/` has no arithmetic of floats: forms, codes, clock, and who replaces whom.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from model import Lesson, RecallConfig, State, succession
from model.codes import Vector, packed_code, scores, unpacked
from model.config import FAST, LEVELS, MIDDLE
from model.features import BLOCK
from model.levels import crossings
from model.state import Named, initial


class SequentialFeatures:
    """Keys to features, one at a time."""

    def __init__(self, config: RecallConfig) -> None:
        self.frequencies, self.sharpness = config.frequencies, config.sharpness
        self.blocks = -(-config.frequencies // BLOCK)
        drawn = hashlib.shake_256(f"{config.seed}:wide".encode()).digest(3 * self.blocks * BLOCK // 8)
        signs = np.unpackbits(np.frombuffer(drawn, np.uint8)).astype(np.float32) * 2 - 1
        self.signs = torch.from_numpy(signs.reshape(3, self.blocks, BLOCK))
        self.left, self.right = _hadamard(16), _hadamard(32)

    def __call__(self, key: Tensor) -> Tensor:
        padded = torch.zeros(BLOCK)
        padded[: len(key)] = key
        turned = padded.expand(self.blocks, BLOCK)
        for signs in self.signs:
            rows = torch.mm((turned * signs).reshape(-1, 32), self.right)
            columns = rows.reshape(self.blocks, 16, 32).transpose(1, 2).reshape(-1, 16)
            turned = torch.mm(columns, self.left).reshape(self.blocks, BLOCK)
        angles = turned.reshape(-1)[: self.frequencies].mul_(float(np.sqrt(BLOCK))).mul_(float(np.sqrt(self.sharpness)))
        return torch.cat([torch.cos(angles), torch.sin(angles)]).mul_(float(np.sqrt(1.0 / self.frequencies)))


class SequentialMemory:
    """One bank at a time."""

    def __init__(self, config: RecallConfig) -> None:
        self.config, self.size, self.features = config, config.window, SequentialFeatures(config)

    def fold(self, lessons: list[Lesson]) -> State:
        state = initial(self.config)
        for lesson in lessons:
            self.apply_(state, lesson)
        return state

    def apply_(self, state: State, lesson: Lesson) -> None:
        config, fast = self.config, state.levels[FAST]
        key, packed = torch.tensor(lesson.key), packed_code(lesson.right, config.code_width)
        right = succession.find(fast, packed)
        said, margin, loud = self.said(state, key)
        own: list[int] = []
        if right is None:
            right = succession.add(fast, packed, said, margin)
            if lesson.words is not None and config.own_words:
                own = [self.place(fast, torch.tensor(lesson.words), right, config.rate * config.own_words)]
        else:
            in_a_row, parent = int(fast["last"][0, 0]) == right, int(fast["kin"][right, succession.PARENT])
            home = parent >= 0 and self.is_home(fast, key, parent, 0.75 if in_a_row else 0.25)
            heard = succession.Heard(said, margin, float(loud[right] - loud[parent]) if parent >= 0 else 0.0, home, in_a_row)
            succession.taught(fast, right, heard, step=config.replaced_step, threshold=config.replaced_at)
        fast["last"][0, 0] = right
        row = self.place(fast, key, right, config.rate)
        near = self.closeness(fast, key)
        fast["answers"][: len(near)][near >= math.exp(config.sharpness * (config.same - 1.0)) - 1e-5] = right
        held = near.masked_fill(fast["rates"][: len(near), 0] == 0.0, -1.0)
        best, rows = torch.topk(held, min(1 + config.neighbours, len(held)))
        self.write(state, list(dict.fromkeys([row, *rows[best >= 0.0].tolist(), *own])))
        clock = state.clock.after(lesson.tokens)
        if MIDDLE in [level for level in LEVELS if crossings(state.clock, clock, config.period_of(level))]:
            self.hand_on(state)
        state.clock, state.watermark = clock, lesson.seq

    def marks(self, fast: Named) -> tuple[int, int]:
        taken, handed = fast["marks"][0].tolist()
        return taken, handed

    def closeness(self, fast: Named, keys: Tensor) -> Tensor:
        held = fast["keys"][: min(self.marks(fast)[0], self.size)]
        near = torch.mv(held, keys) if keys.dim() == 1 else torch.stack([torch.mv(held, key) for key in keys], dim=1)
        return near.sub_(1.0).mul_(self.config.sharpness).exp_()

    def read(self, state: State, key: Tensor) -> tuple[Tensor, Tensor]:
        near = self.closeness(state.levels[FAST], key)
        return torch.mv(state.levels[FAST]["errors"][: len(near)].T, near), self.wide(state, key)

    def wide(self, state: State, key: Tensor) -> Tensor:
        if not state.levels[MIDDLE]["taken"].any():
            return torch.zeros(self.config.code_width)
        return torch.mv(state.levels[MIDDLE]["weights"], self.features(key))

    def said(self, state: State, key: Tensor) -> tuple[int, float, Vector]:
        fast, (newer, older) = state.levels[FAST], self.read(state, key)
        whole = (newer + older).numpy()
        loud = scores(fast["codes"].numpy(), whole)
        if not len(loud):
            return -1, 0.0, loud
        found = succession.speak_for(loud, *succession.replaced(fast), float(np.linalg.norm(whole)) / math.sqrt(len(whole)))
        best = int(found.argmax())
        others = np.delete(found, best)
        return best, float(found[best] - others.max()) if len(others) else max(float(found[best]), 0.0), loud

    def place(self, fast: Named, key: Tensor, answer: int, rate: float) -> int:
        taken, _ = self.marks(fast)
        row = taken % self.size
        fast["keys"][row], fast["errors"][row], fast["rates"][row], fast["answers"][row] = key, 0.0, rate, answer
        fast["marks"][0, 0] = taken + 1
        return row

    def is_home(self, fast: Named, key: Tensor, answer: int, share: float) -> bool:
        taken, _ = self.marks(fast)
        used = min(taken, self.size)
        rows = ((fast["answers"][:used, 0] == answer) & (fast["rates"][:used, 0] > 0.0)).nonzero()[:, 0]
        rows = rows[((rows - taken) % self.size).argsort()][-32:]
        if len(rows) < 3:
            return False
        keys = fast["keys"][rows]
        among = torch.stack([torch.mv(keys, each) for each in keys]).fill_diagonal_(-1.0).amax(1)
        return bool(torch.mv(keys, key).max() >= torch.quantile(among, share))

    def write(self, state: State, rows: list[int]) -> None:
        fast, chosen = state.levels[FAST], torch.tensor(rows)
        values = torch.from_numpy(unpacked(fast["codes"].numpy()[fast["answers"][rows, 0].numpy()]))
        near = self.closeness(fast, fast["keys"][chosen])
        held = fast["errors"][: len(near)].T
        said = torch.stack([torch.mv(held, one) for one in near.T.contiguous()])
        if state.levels[MIDDLE]["taken"].any():
            said = said + torch.stack([self.wide(state, fast["keys"][row].clone()) for row in rows])
        gram = near[chosen]
        gram.diagonal()[1:].add_(1.0 / fast["rates"][chosen[1:], 0])
        fast["errors"][chosen] -= torch.linalg.solve(gram, said - values)

    def hand_on(self, state: State) -> None:
        fast, weights = state.levels[FAST], state.levels[MIDDLE]["weights"]
        taken, handed = self.marks(fast)
        rows = [pair % self.size for pair in range(handed, taken - self.size + self.config.reserve)]
        for row in rows:
            weights.addr_(fast["errors"][row], self.features(fast["keys"][row].clone()))
        for name in ("keys", "errors", "rates", "answers") if rows else ():
            fast[name][torch.tensor(rows)] = 0
        fast["marks"][0, 1] += len(rows)
        state.levels[MIDDLE]["taken"] += len(rows)


def _hadamard(size: int) -> Tensor:
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / float(np.sqrt(size))
