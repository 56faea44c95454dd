"""One load from begin to end: banks are taught, requests are sent in one of the modes, and what was acknowledged is looked for."""

import contextlib
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal

from bench.load.around import clear, prepare, verify
from bench.load.figures import Step, step_of
from bench.load.knee import climb
from bench.load.report import Found
from bench.load.senders import Senders, senders
from bench.load.sending import Ack
from bench.load.soak import watching
from bench.load.target import Target
from bench.load.texts import Texts, Work, available_texts
from bench.load.warmth import ask, counts, to_ask, warmth

Mode = Literal["rate", "knee", "soak", "many"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done. `rate` is 0 where the knee decides."""

    mode: Mode
    work: Work
    senders: int
    rate: float
    seconds: float  # of a step
    start: float  # the first rate on the way to the knee
    bound_ms: float
    soak_s: float = 0.0
    share: float = 0.7  # of the knee, in a soak
    warm: int = 0  # banks that the service keeps on its devices, all its processes together


async def carry_out(plan: Plan, started: AbstractAsyncContextManager[Target]) -> Found:
    """The whole load on a service.

    Raises:
        NotPrepared: the service refused to make or to teach a bank, or went away.
        NotServing: it did not start.
        NotStarted: a part of a cluster did not.
        SenderGone: a process that sends ended.
    """
    texts = available_texts()
    async with started as target:
        with senders(plan.senders) as sending:
            run = Run(plan, target, sending, texts, Found(target.name, plan.work, plan.bound_ms))
            try:
                await prepare(target, plan.work, texts)
                await run.play()
                run.found.verified = await verify(target, plan.work, run.acks)
            finally:
                if not target.ours:
                    with contextlib.suppress(Exception):
                        await clear(target, plan.work)
    return run.found


class Run:
    """The requests of a plan."""

    def __init__(self, plan: Plan, target: Target, sending: Senders, texts: Texts, found: Found) -> None:
        self._plan, self._target, self._sending, self._texts = plan, target, sending, texts
        self.found, self.acks = found, list[Ack]()

    async def play(self) -> None:
        """Send them in the plan's mode."""
        plan = self._plan
        match plan.mode:
            case "rate":
                await self._step(plan.rate, plan.seconds)
            case "knee":
                await self._climb()
            case "soak":
                await self._soak()
            case "many":
                await self._many()

    async def _step(self, rate: float, seconds: float) -> Step:
        done = await self._sending.run(self._target, self._plan.work, rate, seconds)
        step = step_of(done, rate, seconds)
        self.acks += done.acks
        self.found.steps.append(step)
        self.found.last = done.sent
        return step

    async def _climb(self) -> None:
        plan = self._plan
        _, self.found.knee = await climb(lambda rate: self._step(rate, plan.seconds), lambda step: step.is_good(plan.bound_ms), plan.start)
        self.found.sought = True

    async def _soak(self) -> None:
        plan, rate = self._plan, self._plan.rate
        if not rate:
            await self._climb()
            if self.found.knee is None:
                return
            rate = plan.share * self.found.knee
        async with watching(self._target, plan.soak_s) as self.found.watched:
            await self._step(rate, plan.soak_s)

    async def _many(self) -> None:
        plan, work = self._plan, self._plan.work
        before = await counts(self._target)
        await self._step(plan.rate, plan.seconds)
        after = await counts(self._target)
        asked = await ask(self._target, work, self._texts, to_ask(self.found.last, work.banks, plan.warm))
        self.found.warmth = warmth(before, after, asked)
