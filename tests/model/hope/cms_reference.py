"""The continuum memory as on paper: one row, one token at a time, whole weights instead of changes; shares no code with it.

Every online level at place p owns a set of weights: its own and, nested, copies of those of all faster levels, which are their starts.
"""

import math

import torch


def rms(x, gain, eps=1e-6):
    return gain * x / ((x**2).mean() + eps).sqrt()


def block(weights, gain, x):
    """F(x) of one token x (width,)."""
    n = rms(x, gain)
    if "gate_proj" in weights:
        gate = weights["gate_proj"] @ n
        z = gate / (1 + torch.exp(-gate)) * (weights["up_proj"] @ n)
    else:
        a = weights["up_proj"] @ n
        z = 0.5 * a * (1 + torch.erf(a / math.sqrt(2)))
    return weights["down_proj"] @ z


class Reference:
    """What one row of `memory` should do: `read(x, label)` token by token."""

    def __init__(self, memory, head):
        self.configs, self.variant, self.order, self.head = memory.configs, memory.variant, memory.order, head
        self.gains = [level.norm.weight.detach().clone() for level in memory.levels]
        base = [{name: matrix.weight.detach().clone() for name, matrix in level.matrices()} for level in memory.levels]
        self.mix = torch.softmax(memory.mix.detach(), 0) if memory.variant == "independent" else None
        self.online = [place for place, config in enumerate(self.configs) if config.period_tokens is not None and config.rate > 0]
        owned = {place: [j for j in self.online if j <= place] if self.variant == "nested" else [place] for place in self.online}
        self.sets = {p: {j: {n: w.clone() for n, w in base[j].items()} for j in owned[p]} for p in self.online}
        self.base = base
        self.sums = {p: self.zeros(p) for p in self.online}
        self.counts = dict.fromkeys(self.online, 0)
        self.clipped = dict.fromkeys(self.online, 0)
        self.clock = 0

    def zeros(self, p):
        return {j: {n: torch.zeros_like(w) for n, w in each.items()} for j, each in self.sets[p].items()}

    def weights(self, place):
        return self.sets[place][place] if place in self.online else self.base[place]

    def output(self, x, weights):
        places = range(len(weights))
        if self.variant == "independent":
            return x + sum(self.mix[p] * block(weights[p], self.gains[p], x) for p in places)
        for p in places if self.order == "fast_first" else reversed(places):
            x = x + block(weights[p], self.gains[p], x)
        return x

    def read(self, x, label):
        """One token (width,) and its label: the output before any update of this token."""
        weights = [{n: w.clone().requires_grad_() for n, w in self.weights(p).items()} for p in range(len(self.configs))]
        y = self.output(x, weights)
        scores = self.head @ y
        (torch.logsumexp(scores, 0) - scores[label]).backward()
        for p in self.online:
            self.counts[p] += 1
            for j, each in self.sums[p].items():
                for name in each:
                    if self.configs[j].adapt == "all" or name == "down_proj":
                        each[name] += weights[j][name].grad
        self.clock += 1
        for p in self.online:
            if self.clock % self.configs[p].period_tokens == 0:
                self.update(p)
        return y.detach()

    def update(self, p):
        config = self.configs[p]
        share = config.rate / (self.counts[p] if config.reduction == "mean" else 1)
        steps = {(j, n): -share * g for j, each in self.sums[p].items() for n, g in each.items()}
        length = math.sqrt(sum(float((s**2).sum()) for s in steps.values()))
        self.clipped[p] += length > config.clip
        for (j, n), step in steps.items():
            self.sets[p][j][n] += step * min(1.0, config.clip / length)
        for j in self.online:
            if self.variant == "nested" and j < p:
                for i in self.sets[j]:
                    self.sets[j][i] = {n: w.clone() for n, w in self.sets[p][i].items()}
        self.sums[p], self.counts[p] = self.zeros(p), 0


def stream(memory, head, states, x, labels, clock, cuts, seen=None, after_call=None):
    """Run rows x (B, T, width) in calls of `cuts` tokens, each cut again at multiples of the fastest period; learn by "ntp".

    `seen` is called with (clock, states before, states after) at every piece. Returns outputs (B, T, width), states, clock.
    """
    from model.hope.cms_objectives import leaves, regrouped

    period, outputs, at = memory.periods[0], [], 0
    for cut in cuts:
        stop = at + cut
        while at < stop:
            size = min([stop - at, *[period - int(c) % period for c in clock]])
            live, flat = leaves(states)
            y = memory(x[:, at : at + size], live)
            loss = torch.nn.functional.cross_entropy((y @ head.T).flatten(0, 1), labels[:, at : at + size].flatten(), reduction="sum")
            gradients = regrouped(states, torch.autograd.grad(loss, flat))
            new = memory.accumulate(states, gradients, torch.full((len(x),), size))
            new = memory.advance(new, clock, clock + size)
            clock = clock + size
            if seen is not None:
                seen(clock, states, new)
            outputs.append(y.detach())
            states, at = new, at + size
        if after_call is not None:
            after_call()
    return torch.cat(outputs, 1), states, clock
