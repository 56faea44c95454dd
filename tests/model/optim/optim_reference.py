"""Slow float64 references in numpy that share no code with model/optim, and the rules under test."""

import numpy as np
import torch

from model.optim import M3, AdamW, DeepMomentum, DeltaMomentum, HigherOrderMomentum, Momentum, Muon, PreconditionedMomentum, Rule, Sgd

RULES: dict[str, Rule] = {
    "sgd": Sgd(0.3),
    "momentum": Momentum(0.02),
    "preconditioned": PreconditionedMomentum(0.005),
    "higher-order": HigherOrderMomentum(0.02, power=1.5),
    "delta": DeltaMomentum(0.02),
    "delta-erase": DeltaMomentum(0.02, erase=0.5),
    "deep-linear": DeepMomentum(0.02, memory="linear"),
    "deep-mlp": DeepMomentum(0.01),
    "deep-mlp-ns": DeepMomentum(0.01, output="newton_schulz"),
    "muon": Muon(0.02, weight_decay=0.01),
    "m3": M3(0.02, period=3, weight_decay=0.01),
    "m3-post": M3(1e-3, period=3, v_mode="post"),
    "m3-literal": M3(0.02, period=3, literal=True),
    "adamw": AdamW(0.02),
}
MATRIX_ONLY = {"deep-mlp-ns", "muon", "m3", "m3-post", "m3-literal"}


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonalised(matrix: np.ndarray) -> np.ndarray:
    """Five quintic steps on the singular values alone: no matrix iteration at all."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.sqrt((values**2).sum())
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ np.diag(values) @ right


def muon(weight: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float, weight_decay: float) -> np.ndarray:
    """Muon as its author wrote it: an average, Nesterov's look ahead, √max(1, rows / columns)."""
    average = np.zeros_like(weight)
    for gradient in gradients:
        average = average + (1 - decay) * (gradient - average)
        ahead = gradient + decay * (average - gradient)
        weight = weight * (1 - rate * weight_decay)
        weight = weight - rate * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5 * orthogonalised(ahead)
    return weight


def m3_literal(weight, gradients, rate, b1, b2, b3, mix, period, epsilon):
    """Algorithm 1 with everything summed from the start at every step; the slow term of the periods that ended before the step."""
    path = []
    for t in range(1, len(gradients) + 1):
        first = b1 * sum(gradients[:t])
        square = b2 * sum(g**2 for g in gradients[:t])
        ended = (t - 1) // period * period
        slow = orthogonalised(b3 * sum(gradients[:ended])) if ended else np.zeros_like(weight)
        weight = weight - rate * (orthogonalised(first) + mix * slow) / (np.sqrt(square) + epsilon)
        path.append(weight)
    return path


def m3_default(weight, gradients, rate, b1, b3, mix, period, weight_decay):
    path = []
    for t in range(1, len(gradients) + 1):
        first = sum((1 - b1) * b1 ** (t - i) * gradients[i - 1] for i in range(1, t + 1))
        periods = [np.mean(gradients[k * period : (k + 1) * period], axis=0) for k in range((t - 1) // period)]
        slow = sum(((1 - b3) * b3 ** (len(periods) - 1 - k) * mean for k, mean in enumerate(periods)), np.zeros_like(weight))
        direction = orthogonalised(first) + (mix * orthogonalised(slow) if periods else 0.0)
        weight = (1 - rate * weight_decay) * weight - rate * 0.2 * max(weight.shape) ** 0.5 * direction
        path.append(weight)
    return path


def delta_momentum(weight, gradients, rate, decay, erase):
    """Entry by entry."""
    outputs, inputs = weight.shape
    memory, weight = np.zeros_like(weight), weight.copy()
    for gradient in gradients:
        unit = gradient / np.sqrt((gradient**2).sum())
        new = np.zeros_like(memory)
        for o in range(outputs):
            for i in range(inputs):
                held = sum(memory[o, j] * unit[p, j] * unit[p, i] for j in range(inputs) for p in range(outputs))
                new[o, i] = decay * memory[o, i] - erase * held - rate * gradient[o, i]
        memory = new
        weight += memory
    return weight


def run(rule: Rule, weight: torch.Tensor, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """The weights after each step of a rule."""
    slots, path = rule.slots(weight), []
    for gradient in gradients:
        change, slots = rule.step(gradient, weight, slots)
        weight = weight + change
        path.append(weight)
    return path
