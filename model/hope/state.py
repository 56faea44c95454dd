"""Fast state as values: trees of tensors whose first dimension is the sequence.

A state holds data only (no modules, no views into parameters), so that it can be saved, restored, cloned, compared and batched across
owners: `stack` puts the rows of several states into one, one update moves them all, `unstack` gives them back (hope.md §9).

S1  No operation here mixes rows.
S2  Operations return new trees; tensors may be shared between trees because nobody writes into them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound="Tensors")
Node = Any  # Tensor | Tensors | dict[str, Node] | tuple[Node, ...] | None


class NotFinite(ValueError):
    """A tensor has numbers that are not finite; the message names it. Whatever it was computed from is unchanged.

    `rows` are the rows concerned: a caller who batches several owners runs the others again without them.
    """

    def __init__(self, message: str, rows: Sequence[int]) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


@dataclass(frozen=True, slots=True)
class Tensors:
    """What every state inherits: its dataclass fields are tensors (rows, …), None, other `Tensors`, or dicts and tuples of these."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same tree with every tensor changed."""
        return replace(self, **{field.name: _mapped(getattr(self, field.name), change) for field in fields(self)})

    def named(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its dotted path, in a fixed order."""
        for field in fields(self):
            yield from _named(getattr(self, field.name), f"{prefix}{field.name}")

    def layout(self) -> Iterator[tuple[str, str]]:
        """Every tensor's path with its type and its shape but for the rows."""
        yield from ((name, f"{tensor.dtype}{tuple(tensor.shape[1:])}") for name, tensor in self.named())

    def clone(self) -> Self:
        """An independent copy, cut from any graph."""
        return self.map(lambda tensor: tensor.detach().clone())

    def detach(self) -> Self:
        """The same numbers, cut from any graph."""
        return self.map(Tensor.detach)

    def rows(self, index: Tensor) -> Self:
        """The rows `index` (n,) of every tensor, in that order."""
        return self.map(lambda tensor: tensor.index_select(0, index.to(tensor.device)))

    def to(self, device: torch.device | str) -> Self:
        """The same tree on another device."""
        return self.map(lambda tensor: tensor.to(device))

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for _, tensor in self.named())

    def filled(self, tensors: dict[str, Tensor], prefix: str = "") -> Self:
        """This tree with the tensors of `tensors` by dotted path.

        Raises:
            ValueError: a tensor is missing, left over, or has another shape or type; names it.
        """
        wanted = dict(self.named(prefix))
        if missing := sorted(wanted.keys() - tensors.keys()):
            raise ValueError(f"the state lacks the tensor {missing[0]} ({len(missing)} missing in all)")
        if extra := sorted(tensors.keys() - wanted.keys()):
            raise ValueError(f"the state has the tensor {extra[0]}, which this configuration does not know ({len(extra)} in all)")
        for name, tensor in wanted.items():
            given = tensors[name]
            if given.shape[1:] != tensor.shape[1:] or given.dtype != tensor.dtype:
                raise ValueError(f"{name} is {_described(given)}, this configuration needs {_described(tensor)}")
        values = iter([tensors[name] for name in wanted])
        return self.map(lambda _: next(values))


def check_finite(named: Iterable[tuple[str, Tensor]], when: str) -> None:
    """Refuse tensors with numbers that are not finite; `when` ends the sentence.

    Raises:
        NotFinite: names the first such tensor and its first such row.
    """
    floating = [(name, tensor) for name, tensor in named if tensor.is_floating_point()]
    totals: dict[torch.device, Tensor] = {}  # sums are cheaper than masks, and one answer for all makes a GPU wait once
    for _, tensor in floating:
        total = tensor.detach().sum()
        totals[tensor.device] = totals[tensor.device] + total if tensor.device in totals else total
    if all(bool(torch.isfinite(total)) for total in totals.values()):
        return
    for name, tensor in floating:
        fine = torch.isfinite(tensor.reshape(len(tensor), -1)).all(1) if tensor.dim() else torch.isfinite(tensor)[None]
        if rows := (~fine).nonzero().flatten().tolist():
            raise NotFinite(f"{name}, row {rows[0]}, is not finite {when}", rows)


def stack(states: Sequence[T]) -> T:
    """One state with the rows of all, in order (concatenated along the first dimension).

    Raises:
        ValueError: no state, or states of different layouts.
    """
    if not states:
        raise ValueError("there is no state to stack")
    named = [dict(state.named()) for state in states]
    for other in named[1:]:
        if other.keys() != named[0].keys():
            odd = sorted(other.keys() ^ named[0].keys())[0]
            raise ValueError(f"states of different layouts cannot be stacked: only some have {odd}")
        for name, tensor in named[0].items():
            if (other[name].shape[1:], other[name].dtype) != (tensor.shape[1:], tensor.dtype):
                both = f"{_described(tensor)} and {_described(other[name])}"
                raise ValueError(f"states of different layouts cannot be stacked: {name} is {both}")
    joined = {name: torch.cat([tensors[name] for tensors in named]) for name in named[0]}
    return states[0].filled(joined)


def unstack(state: T, sizes: Sequence[int] | None = None) -> list[T]:
    """The states that `stack` was given: `sizes` rows each (default: one row each). Copies, so that one can be dropped alone."""
    first = next(tensor for _, tensor in state.named())
    sizes = [1] * len(first) if sizes is None else list(sizes)
    if sum(sizes) != len(first):
        raise ValueError(f"sizes {sizes} add up to {sum(sizes)}, the state has {len(first)} rows")
    states, start = [], 0
    for size in sizes:
        index = slice(start, start + size)
        states.append(state.map(lambda tensor, index=index: tensor[index].clone()))  # type: ignore[misc]
        start += size
    return states


def where(rows: Tensor, yes: T, no: T) -> T:
    """Row by row `yes` where `rows` (B,) is true, else `no`; both of one layout."""
    others = iter([tensor for _, tensor in no.named()])  # named and mapped in one order, whatever order dicts were filled in

    def chosen(tensor: Tensor) -> Tensor:
        other = next(others)
        return torch.where(rows.to(tensor.device).reshape(-1, *[1] * (tensor.dim() - 1)), tensor, other)

    return yes.map(chosen)


def scattered(whole: T, index: Tensor, part: T) -> T:
    """`whole` with its rows `index` (n,) replaced by the rows of `part`."""
    others = iter([tensor for _, tensor in part.named()])
    return whole.map(lambda tensor: tensor.index_copy(0, index.to(tensor.device), next(others)))


def difference(one: T, other: T) -> dict[str, float]:
    """Largest absolute difference by tensor path; only paths that differ."""
    left, right = dict(one.named()), dict(other.named())
    if left.keys() != right.keys():
        raise ValueError(f"states of different layouts: {sorted(left.keys() ^ right.keys())[0]}")
    return {
        name: float((left[name].detach().double() - right[name].detach().double()).abs().max())
        for name in left
        if not torch.equal(left[name], right[name])
    }


def _mapped(node: Node, change: Callable[[Tensor], Tensor]) -> Node:
    match node:
        case Tensor():
            return change(node)
        case Tensors():
            return node.map(change)
        case dict():
            return {name: _mapped(node[name], change) for name in sorted(node)}  # one order, however a dict was filled
        case tuple():
            return tuple(_mapped(child, change) for child in node)
        case _:
            return node


def _named(node: Node, path: str) -> Iterator[tuple[str, Tensor]]:
    match node:
        case Tensor():
            yield path, node
        case Tensors():
            yield from node.named(f"{path}.")
        case dict():
            for name in sorted(node):
                yield from _named(node[name], f"{path}.{name}")
        case tuple():
            for position, child in enumerate(node):
                yield from _named(child, f"{path}.{position}")
        case _:
            return


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{tuple(tensor.shape)}"
