"""A store of LangGraph over a memory of corrections: what is put under a key is what is right in that situation.

A namespace is a bank, named by its labels with dots between them. `get` looks the key up in the ledger, exactly. `search` with a query
recalls: the key, or the field that `index` names, is the situation, so other words for it find it, a newer answer displaces an older one,
and where nothing is known nothing is found. What a memory cannot do is refused, not imitated: see `NotImplementedError` below.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from palimpsest.adapters import missing
from palimpsest.adapters.exactly import containing, suppress
from palimpsest.client import Client
from palimpsest.errors import Conflict, NotFound
from palimpsest.replies import Correction

try:
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        Item,
        ListNamespacesOp,
        MatchCondition,
        Op,
        PutOp,
        Result,
        SearchItem,
        SearchOp,
    )
except ImportError as absent:
    raise missing("langgraph") from absent

RIGHT = "right"  # the field of a value that is its answer; without it the whole value is, as JSON
FOUND_MAX = 100  # answers that a recall gives at most


class PalimpsestStore(BaseStore):
    """For `graph.compile(store=PalimpsestStore(client))`. A namespace that is new gets its bank if the key may create one (`admin`).

    `situation` names the field of a value that says when it is right; where a value has none, the key does. A search gives guesses, too,
    with `min_confidence=0`.
    """

    def __init__(self, memory: Client, *, situation: str | None = None, min_confidence: float | None = None) -> None:
        self._memory, self._situation, self._min_confidence = memory, situation, min_confidence

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do these in order."""
        return [self._do(op) for op in ops]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do these in order, in a thread."""
        return await asyncio.to_thread(self.batch, list(ops))

    def _do(self, op: Op) -> Result:
        match op:
            case GetOp():
                return self._get(op)
            case PutOp():
                if op.value is None:
                    self._delete(op.namespace, op.key)
                else:
                    self._put(op, dict(op.value), _bank(op.namespace))
                return None
            case SearchOp():
                return self._search(op)
            case ListNamespacesOp():
                return self._namespaces(op)
        raise NotImplementedError(f"a memory of corrections has no operation {type(op).__name__}")

    def _get(self, op: GetOp) -> Item | None:
        found = next((each for each in self._under(op.namespace, op.key) if each.status == "active"), None)
        return None if found is None else _item(op.namespace, found)

    def _put(self, op: PutOp, value: dict[str, Any], bank: str) -> None:
        situation, right = self._situation_of(op, value), value.get(RIGHT)
        if not isinstance(right, str):
            right = json.dumps(value, ensure_ascii=False, sort_keys=True)
        # what supersedes is the same situation; under the same key there may have been another
        keyed = situation == op.key and not self._situation and not op.index
        older = [] if keyed else [each for each in self._under(op.namespace, op.key) if each.input != situation]
        metadata = {"key": op.key, "value": value}
        try:
            self._memory.correct(situation, right, metadata=metadata, bank=bank)
        except NotFound:
            with contextlib.suppress(Conflict):  # somebody else was quicker
                self._memory.create_bank(bank)
            self._memory.correct(situation, right, metadata=metadata, bank=bank)
        suppress(self._memory, older, "put anew", bank)

    def _delete(self, namespace: tuple[str, ...], key: str) -> None:
        # all that was ever put there: what is suppressed alone would give way to the one before it
        suppress(self._memory, list(self._under(namespace, key)), "deleted", _bank(namespace))

    def _search(self, op: SearchOp) -> list[SearchItem]:
        bank = _bank(op.namespace_prefix)
        try:
            found = self._recalled(op, bank) if op.query else ((each, None) for each in self._memory.corrections(bank=bank))
            items = {_key(each): _item(op.namespace_prefix, each, score) for each, score in found if each.status == "active"}
        except NotFound:
            self._refuse_above(op.namespace_prefix)
            return []
        fitting = [item for item in items.values() if _fits(item.value, op.filter)]
        return fitting[op.offset : op.offset + op.limit]

    def _recalled(self, op: SearchOp, bank: str) -> Iterator[tuple[Correction, float]]:
        wanted = FOUND_MAX if op.filter else min(op.offset + op.limit, FOUND_MAX)
        recalled = self._memory.recall(op.query or "", top_k=wanted, min_confidence=self._min_confidence, bank=bank)
        for answer in recalled.answers:
            behind = (self._memory.get_correction(each, bank=bank) for each in answer.support)
            yield from ((each, answer.confidence) for each in behind if each.status == "active")

    def _namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        named = (tuple(bank.name.split(".")) for bank in self._memory.banks())
        fitting = (labels for labels in named if all(_matches(labels, condition) for condition in op.match_conditions or ()))
        return sorted({labels[: op.max_depth] for labels in fitting})[op.offset : op.offset + op.limit]

    def _under(self, namespace: tuple[str, ...], key: str) -> Iterator[Correction]:
        """What was put under a key and is not forgotten, newest first."""
        return (each for each in containing(self._memory, key, _bank(namespace)) if _key(each) == key)

    def _situation_of(self, op: PutOp, value: dict[str, Any]) -> str:
        if op.index is False or (op.index is not None and len(op.index) != 1):
            raise NotImplementedError("a memory finds a value by one situation: `index` names one field of it, or is left out")
        field = op.index[0] if op.index else self._situation
        situation = value.get(field) if field else None
        if op.index and not isinstance(situation, str):
            raise NotImplementedError(f"`index` names {field!r}, which is no text at the top of the value")
        return situation if isinstance(situation, str) else op.key

    def _refuse_above(self, namespace: tuple[str, ...]) -> None:
        below = f"{_bank(namespace)}."
        if any(bank.name.startswith(below) for bank in self._memory.banks()):
            raise NotImplementedError(f"{namespace} has namespaces below it; each is a memory of its own, search them one by one")


def _bank(namespace: tuple[str, ...]) -> str:
    if not namespace:
        raise NotImplementedError("every namespace is a memory of its own; name one")
    return ".".join(namespace)


def _key(correction: Correction) -> str | None:
    return correction.metadata.get("key", correction.input)


def _item(namespace: tuple[str, ...], correction: Correction, score: float | None = None) -> SearchItem:
    return SearchItem(
        namespace=namespace,
        key=_key(correction) or correction.id,
        value=correction.metadata.get("value", {RIGHT: correction.right}),
        created_at=correction.created_at,
        updated_at=correction.created_at,
        score=score,
    )


def _fits(value: dict[str, Any], wanted: dict[str, Any] | None) -> bool:
    if any(isinstance(asked, dict) for asked in (wanted or {}).values()):
        raise NotImplementedError("a filter compares fields for being equal; operators are not there")
    return all(value.get(field) == asked for field, asked in (wanted or {}).items())


def _matches(labels: tuple[str, ...], condition: MatchCondition) -> bool:
    path = condition.path
    if len(labels) < len(path):
        return False
    part = labels[: len(path)] if condition.match_type == "prefix" else labels[len(labels) - len(path) :]
    return all(asked in ("*", label) for asked, label in zip(path, part, strict=True))
