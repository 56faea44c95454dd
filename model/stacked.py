"""The products of many banks at once, by one kernel for all: gather by slot, batched product, scatter.

A kernel for many matrices chooses its way by their shapes, and ways round differently. So a shape here depends on nothing but the bank
itself, whoever else is in the call: always `LANES` banks (the first again where they are fewer), always `width` keys of a bank (zeros
where they are fewer), its used rows rounded up to a step (256, 1,024, …: what is beyond counts nothing), a system of always `width`
equations. No lane reads another. So each bank of a call has the bits that it has alone (R3 of `model.recall`) and replay gives the lived
state (R1), as far as the device treats the lanes of one kernel alike. Between devices, and against `OneByOne`, last bits differ.

What it costs: a bank alone pays for `LANES`, and slots that do not lie side by side are copied to where they do, twice in a lesson (7.7 MB
of a full window, 6.3 MB of wide weights). The host waits for the device once for what was said and is near and, seldom, once more for
`among`. States that are no views of slots are served as well, each in kernels of its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model import wide
from model.config import FAST, MIDDLE, SLOW, RecallConfig
from model.features import FeatureMap, kernel
from model.products import Inquiry, Pairs, Question, Reading
from model.slow import Slow, pad
from model.state import HEAVY, Berth, Levels, State, block_of
from model.window import HOME, Ring

LANES = 16  # banks in a kernel
FEWEST_ROWS, GROWTH = 256, 4  # steps of rows
LEAVING = 4  # pairs that are handed on by one kernel


class Group(NamedTuple):
    """At most `LANES` banks that share kernels, and which items of the call they are."""

    stacks: Levels
    slots: Tensor  # (LANES,) of the banks, the first again where they are fewer
    places: list[int]


class Gathered(NamedTuple):
    """The used rows of a group, in lanes of their own."""

    keys: Tensor  # (LANES, rows, key_width)
    errors: Tensor  # (LANES, rows, code_width)
    weights: Tensor | None  # (LANES, code_width, features); none has been written to yet
    held: Tensor  # (LANES, rows, 1): 1, and 0 beyond the used rows
    blocks: int  # of the slow level that are used


class Stacked:
    """The products of `model.products`, for many banks by one kernel."""

    def __init__(self, config: RecallConfig, device: torch.device) -> None:
        if device.type != "cpu" and torch.get_float32_matmul_precision() != "highest":
            raise ValueError("a memory needs float32 products of full precision: torch.set_float32_matmul_precision('highest')")
        self._config, self._device = config, device
        self._ring = Ring(config.window, config.sharpness)
        self._features, self._slow = FeatureMap(config, device), Slow(config)
        self._width = -(-(config.neighbours + 3) // 8) * 8  # the new pair, those it touches, own words: rounded up

    # --- the port

    def put(self, pairs: Sequence[Pairs]) -> None:
        """See `Products`."""
        for stacks, at, places in self._scattered(pairs):
            stacks[FAST]["keys"][at] = torch.cat([pairs[place].values for place in places]).to(self._device)
            stacks[FAST]["errors"][at] = 0.0

    def read(self, questions: Sequence[Question]) -> list[Reading]:
        """See `Products`."""
        blocks = list(_blocks(questions, self._width))  # of one bank each
        readings: list[Reading | None] = [None] * len(questions)
        for group, gathered in self._gathered([questions[block[0]].state for block in blocks]):
            keys = self._padded([torch.stack([questions[at].key for at in blocks[place]]) for place in group.places])
            said = self._said(group, gathered, self._near(gathered, keys), keys)
            for place, found in zip(group.places, torch.stack(said, dim=2).cpu(), strict=False):
                for at, levels in zip(blocks[place], found.numpy(), strict=False):
                    readings[at] = Reading(*levels)
        return [reading for reading in readings if reading is not None]

    def survey(self, state: State, keys: Tensor) -> list[Reading]:
        """See `Products`. Several keys of a bank share a kernel anyway."""
        return self.read([Question(state, key) for key in keys])

    def ask(self, inquiries: Sequence[Inquiry]) -> list[tuple[Reading, Tensor]]:
        """See `Products`. The lesson's own pairs have no error yet: that they are read as well changes nothing."""
        asked: dict[int, tuple[Reading, Tensor]] = {}
        for group, gathered in self._gathered([inquiry.state for inquiry in inquiries]):
            keys = self._padded([inquiries[place].key[None] for place in group.places])
            near = self._near(gathered, keys)
            said = self._said(group, gathered, near, keys)
            found = torch.cat([*(level[:, 0] for level in said), near[:, :, 0]], dim=1).cpu()  # the host waits here, once
            width = self._config.code_width
            for place, each in zip(group.places, found, strict=False):
                used = self._ring.used(inquiries[place].state.levels[FAST])
                asked[place] = Reading(*each[: 3 * width].view(3, width).numpy()), each[3 * width :][:used]
        return [asked[place] for place in range(len(inquiries))]

    def among(self, pairs: Sequence[Pairs]) -> list[tuple[Tensor, Tensor]]:
        """See `Products`."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for group in self._groups([one.state for one in pairs]):
            rows, live = self._rows([pairs[place].rows for place in group.places], HOME)
            keys = group.stacks[FAST]["keys"][group.slots[:, None], rows] * live[..., None]
            other = self._padded([pairs[place].values[None] for place in group.places])[:, :1]
            products = torch.bmm(keys, torch.cat([keys, other], dim=1).transpose(1, 2)).cpu()  # (LANES, HOME, HOME + 1)
            for place, each in zip(group.places, products, strict=False):
                count = len(pairs[place].rows)
                found[place] = each[:count, :count].clone(), each[:count, HOME]
        return [found[place] for place in range(len(pairs))]

    def write(self, pairs: Sequence[Pairs]) -> None:
        """See `Products`."""
        for group, gathered in self._gathered([one.state for one in pairs]):
            chosen = [pairs[place] for place in group.places]
            rows, live = self._rows([one.rows for one in chosen], self._width)
            lanes = torch.arange(LANES, device=self._device)[:, None]
            keys = gathered.keys[lanes, rows] * live[..., None]
            near = self._near(gathered, keys)
            fast, middle, slow = self._said(group, gathered, near, keys)
            error = fast + middle + slow - self._padded([one.values for one in chosen])
            gram = near[lanes, rows] * live[..., None] * live[:, None, :] + torch.diag_embed(self._diagonal(chosen))
            change, _ = torch.linalg.solve_ex(gram, error)  # never singular, and `solve` would wait for the device to say so
            self._change(group, chosen, change)

    def hand_on(self, pairs: Sequence[Pairs]) -> None:
        """See `Products`. Wide weights are changed in place, by a kernel for each bank: one for all would copy them there and back."""
        most = max((len(one.rows) for one in pairs), default=0)
        for begin in range(0, most, LEAVING):
            part = [Pairs(one.state, one.rows[begin : begin + LEAVING]) for one in pairs if len(one.rows) > begin]
            for group in self._groups([one.state for one in part]):
                rows, live = self._rows([part[place].rows for place in group.places], LEAVING)
                at = group.slots[:, None], rows
                features = self._features.of_all(group.stacks[FAST]["keys"][at])  # (LANES, LEAVING, features)
                errors = group.stacks[FAST]["errors"][at] * live[..., None]
                for lane, place in enumerate(group.places):
                    part[place].state.levels[MIDDLE]["weights"].addmm_(errors[lane].T, features[lane])
        for stacks, at, _ in self._scattered(pairs):
            for name in ("keys", "errors"):
                stacks[FAST][name][at] = 0.0

    # --- inside

    def _near(self, gathered: Gathered, keys: Tensor) -> Tensor:
        """(LANES, rows, width) kernels of what was taken with keys (LANES, width, key_width); 0 beyond the used rows."""
        return kernel(torch.bmm(gathered.keys, keys.transpose(1, 2)), self._config.sharpness).mul_(gathered.held)

    def _said(self, group: Group, gathered: Gathered, near: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(LANES, width, code_width) what the fast, the middle and the slow level say at keys."""
        fast = torch.bmm(near.transpose(1, 2), gathered.errors)
        middle = slow = torch.zeros_like(fast)
        if gathered.weights is not None:
            middle = torch.bmm(self._features.of_all(keys), gathered.weights.transpose(1, 2))
        if gathered.blocks:
            slow = self._settled(group, gathered.blocks, keys)
        return fast, middle, slow

    def _settled(self, group: Group, blocks: int, keys: Tensor) -> Tensor:
        """(LANES, width, code_width) what the first blocks of places say at turned keys."""
        slow, size, width = group.stacks[SLOW], block_of(self._config), self._config.code_width
        said, asked = torch.zeros(LANES, keys.shape[1], width, device=self._device), pad(keys, slow["keys"].shape[2])
        for block in range(blocks):
            places, errors = slice(block * size, (block + 1) * size), slice(block * width, (block + 1) * width)
            held, scales, sizes, owed = (
                slow[name][:, rows].index_select(0, group.slots)
                for name, rows in (("keys", places), ("scales", places), ("sizes", places), ("errors", errors))
            )
            near = torch.bmm(asked, held.float().transpose(1, 2)).mul_(scales.transpose(1, 2))
            weighed = kernel(near, self._config.slow_sharpness).mul_(sizes.transpose(1, 2))
            said += torch.bmm(weighed, owed.float().transpose(1, 2))
        return said

    def _diagonal(self, chosen: Sequence[Pairs]) -> Tensor:
        """(LANES, width) 1/η of the pairs, 0 for the newest of each bank, 1 where there is none."""
        diagonal = torch.ones(LANES, self._width)
        for lane, one in enumerate(chosen):
            diagonal[lane, : len(one.rows)] = 1.0 / one.state.levels[FAST]["rates"][one.rows, 0]
            diagonal[lane, 0] = 0.0
        return diagonal.to(self._device)

    def _change(self, group: Group, chosen: Sequence[Pairs], change: Tensor) -> None:
        """Take `change` (LANES, width, code_width) from the errors of pairs."""
        counts = torch.tensor([len(one.rows) for one in chosen])
        lanes = torch.arange(len(chosen)).repeat_interleave(counts).to(self._device)
        places = torch.cat([torch.arange(count) for count in counts.tolist()]).to(self._device)
        rows = torch.tensor([row for one in chosen for row in one.rows], device=self._device)
        group.stacks[FAST]["errors"][group.slots[lanes], rows] -= change[lanes, places]

    def _gathered(self, states: Sequence[State]) -> Iterator[tuple[Group, Gathered]]:
        """All of `states` in groups of one step of rows, with their tensors."""
        steps = [self._step(state) for state in states]
        for group in self._groups(states, steps):
            rows, speaks, blocks = steps[group.places[0]]
            fast, weights = group.stacks[FAST], group.stacks[MIDDLE]["weights"]
            used = [self._ring.used(states[place].levels[FAST]) for place in group.places]
            used += [0] * (LANES - len(used))
            held = torch.arange(rows, device=self._device) < torch.tensor(used, device=self._device)[:, None]
            yield (
                group,
                Gathered(
                    fast["keys"][:, :rows].index_select(0, group.slots),
                    fast["errors"][:, :rows].index_select(0, group.slots),
                    weights.index_select(0, group.slots) if speaks else None,
                    held.float()[..., None],
                    blocks,
                ),
            )

    def _step(self, state: State) -> tuple[int, bool, int]:
        """The used rows of a bank, rounded up, whether its middle level speaks, and the used blocks of its slow level."""
        fast, rows = state.levels[FAST], FEWEST_ROWS
        while rows < self._ring.used(fast):
            rows *= GROWTH
        return min(rows, self._config.window), wide.taken(state.levels[MIDDLE]) > 0, self._slow.blocks(state.levels[SLOW])

    def _groups(self, states: Sequence[State], steps: Sequence[object] = ()) -> Iterator[Group]:
        """All of `states` in groups, those together that lie in the same stacks (and are of the same step)."""
        for stacks, places in _shared(states, steps):
            for begin in range(0, len(places), LANES):
                part = places[begin : begin + LANES]
                slots = [_berth(states[place]).slot for place in part]
                slots += slots[:1] * (LANES - len(slots))
                yield Group(stacks, torch.tensor(slots, device=self._device), part)

    def _scattered(self, pairs: Sequence[Pairs]) -> Iterator[tuple[Levels, tuple[Tensor, Tensor], list[int]]]:
        """Stacks, slots and rows of all the pairs that lie in them, and the places of their banks."""
        for stacks, places in _shared([one.state for one in pairs]):
            slots = [_berth(pairs[place].state).slot for place in places for _ in pairs[place].rows]
            rows = [row for place in places for row in pairs[place].rows]
            yield stacks, (torch.tensor(slots, device=self._device), torch.tensor(rows, device=self._device)), places

    def _rows(self, rows: Sequence[Sequence[int]], width: int) -> tuple[Tensor, Tensor]:
        """(LANES, width) rows, 0 where there are fewer, and whether there are: 1 or 0."""
        padded, live = torch.zeros(LANES, width, dtype=torch.int64), torch.zeros(LANES, width)
        for lane, each in enumerate(rows):
            padded[lane, : len(each)], live[lane, : len(each)] = torch.tensor(each), 1.0
        return padded.to(self._device), live.to(self._device)

    def _padded(self, vectors: Sequence[Tensor]) -> Tensor:
        """(LANES, width, n) of (at most width, n) for each lane, zeros where there are fewer."""
        padded = torch.zeros(LANES, self._width, vectors[0].shape[-1])
        for lane, each in enumerate(vectors):
            padded[lane, : len(each)] = each
        return padded.to(self._device)


def _berth(state: State) -> Berth:
    """Where a state lies; one that is no view of a slot in stacks of its own."""
    if state.berth is not None:
        return state.berth
    stacks = {level: {name: tensor[None] for name, tensor in named.items() if name in HEAVY} for level, named in state.levels.items()}
    return Berth(stacks, 0)


def _shared(states: Sequence[State], steps: Sequence[object] = ()) -> Iterator[tuple[Levels, list[int]]]:
    """Stacks, and the places of the states that lie in them (and are of one step); each state once."""
    shared: dict[object, list[int]] = {}
    for place, state in enumerate(states):
        owner = id(state) if state.berth is None else id(state.berth.stacks)
        shared.setdefault((owner, steps[place] if steps else None), []).append(place)
    for places in shared.values():
        yield _berth(states[places[0]]).stacks, places


def _blocks(questions: Iterable[Question], width: int) -> Iterator[list[int]]:
    """The places of questions to one bank, at most `width` together."""
    of_bank: dict[int, list[int]] = {}
    for place, question in enumerate(questions):
        of_bank.setdefault(id(question.state), []).append(place)
    for places in of_bank.values():
        yield from (places[begin : begin + width] for begin in range(0, len(places), width))
