"""Self-modifying Titans written a second time, token by token and head by head, from hope.md §2.2–2.6; shares no code with the mixer.

Reads the parameters of a mixer by name, nothing else. Autograd works through it, so outer gradients can be compared too.
"""

import math

import torch
from torch.nn.functional import gelu, logsigmoid, silu, softplus


def slope_of_gelu(z):
    return 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def unit(x):
    return x / torch.sqrt((x * x).sum() + 1e-12)


def read(weights, z):
    if "map" in weights:
        return weights["map"] @ z
    return z + weights["down"] @ gelu(weights["up"] @ z)


def convolved(weight, x):
    """weight (width, taps), x (T, width) → (T, width), causal."""
    width, taps = weight.shape
    out = []
    for t in range(len(x)):
        total = torch.zeros(width, dtype=x.dtype)
        for tap in range(taps):
            back = taps - 1 - tap
            if t - back >= 0:
                total = total + weight[:, tap] * x[t - back]
        out.append(total)
    return torch.stack(out)


class Head:
    """One head of one sequence: its memories, frozen at their chunk's start and running."""

    def __init__(self, mixer, head):
        self.config, self.mixer, self.head = mixer.config, mixer, head
        self.start = {
            role: {name: mixer.start[name][index, head] for name in mixer.start} for index, role in enumerate(mixer.config.learners)
        }
        self.static = {role: {name: mixer.static[role][name][0, head] for name in mixer.start} for role in mixer.static}
        self.running = {role: dict(weights) for role, weights in self.start.items()}
        self.frozen = {role: dict(weights) for role, weights in self.start.items()}
        self.momentum = {role: {name: torch.zeros_like(w) for name, w in weights.items()} for role, weights in self.start.items()}

    def made(self, role, x):
        return read(self.frozen[role] if role in self.frozen else self.static[role], x)

    def step(self, xs, query, log_decay, position):
        config = self.config
        k, v = unit(self.made("k", xs["k"])), self.made("v", xs["v"])
        v = unit(v) if config.unit_values else v
        q = unit(self.made("q", query)) if "q" in config.adaptive else unit(query)
        eta = self.scalar(self.mixer.rate, self.made("eta", xs["eta"]))
        eta = config.rate_max * torch.sigmoid(eta)
        alpha = torch.exp(-softplus(self.scalar(self.mixer.retention, self.made("alpha", xs["alpha"]))))
        alpha = alpha if config.retention else torch.ones_like(alpha)
        o = read(self.frozen["mem"] if config.read == "boundary" else self.running["mem"], q)
        for role in config.learners:
            target = read(self.frozen[role], v) if config.targets == "self" else v
            if config.unit_targets and config.targets == "self":
                target = unit(target)
            self.learn(role, k, target, eta, alpha, log_decay)
        for role in config.learners:
            period = config.chunk_memory if role == "mem" else config.chunk_projections
            if (position + 1) % period == 0:
                self.frozen[role] = dict(self.running[role])
        return o

    def scalar(self, head, x):
        return head.weight[self.head] @ x + head.bias[self.head]

    def learn(self, role, k, target, eta, alpha, log_decay):
        frozen, config = self.frozen[role], self.config
        inputs, errors, rates = {}, {}, {}
        if "map" in frozen:
            prediction = frozen["map"] @ k
            inputs["map"], errors["map"], rates["map"] = k, self.error(prediction, target), eta
        else:
            z = frozen["up"] @ k
            u = gelu(z)
            e = self.error(k + frozen["down"] @ u, target)
            inputs["up"], errors["up"], rates["up"] = k, (frozen["down"].T @ e) * slope_of_gelu(z), eta
            inputs["down"], errors["down"], rates["down"] = u, e, eta / (1 + eta * (u * u).sum())
        for name in frozen:
            x, d, rate = inputs[name], errors[name], rates[name]
            origin = self.start[role][name] if config.anchor == "init" else torch.zeros_like(frozen[name])
            delta = self.running[role][name] - origin
            gain = -rate * torch.outer(d, x)
            if config.momentum:
                gain = self.momentum[role][name] = torch.exp(log_decay) * self.momentum[role][name] + gain
            erased = rate * torch.outer(delta @ x, x) if config.dgd else 0.0
            self.running[role][name] = origin + alpha * delta - erased + gain

    def error(self, prediction, target):
        return prediction - target if self.config.objective == "l2" else -target


def mixed(mixer, x, heads=None):
    """One sequence x (T, width) → y (T, width) and the heads afterwards, from position 0."""
    config = mixer.config
    entered = x @ mixer.enter.weight.T
    width = config.width
    roles, query, gate = entered[:, :width], entered[:, width : 2 * width], entered[:, 2 * width :]
    names = ("k", "v", "eta", "alpha")
    by_role = {role: convolved(mixer.conv.weight[index], roles) for index, role in enumerate(names)}
    query = convolved(mixer.conv_query.weight[0], query)
    heads = heads or [Head(mixer, head) for head in range(config.heads)]
    out = []
    for t in range(len(x)):
        read_out = []
        for head in heads:
            part = slice(head.head * config.head_width, (head.head + 1) * config.head_width)
            log_decay = logsigmoid(mixer.decay.weight @ x[t] + mixer.decay.bias)[head.head] if config.momentum else None
            o = head.step({role: by_role[role][t, part] for role in names}, query[t, part], log_decay, t)
            read_out.append(o / torch.sqrt((o * o).mean() + 1e-6) * mixer.norm.weight)
        out.append(mixer.leave.weight @ (torch.cat(read_out) * silu(gate[t])))
    return torch.stack(out), heads
