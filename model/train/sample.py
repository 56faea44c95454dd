"""Text from a trained model, one token at a time through its carried state."""

import torch
from torch import Tensor, nn

from model.train.evaluate import device_of, scoring
from model.train.nats import carried
from model.train.tokens import Tokenizer, decode


def sample(model: nn.Module, tokenizer: Tokenizer, prompt: str, length: int, *, temperature: float = 0.8, seed: int = 0) -> str:
    """The prompt and `length` more tokens. A temperature of 0 takes the likeliest token each time.

    Raises:
        ValueError: an empty prompt, a negative length or temperature.
    """
    if length < 0 or temperature < 0:
        raise ValueError(f"length {length} and temperature {temperature} must not be negative")
    ids = tokenizer.encode(prompt).tolist()
    if not ids:
        raise ValueError("prompt is empty, give at least one character")
    generator = torch.Generator().manual_seed(seed)
    unread, state = torch.tensor([ids], device=device_of(model)), None
    with scoring(model):
        for _ in range(length):
            logits, state = carried(model, unread, state)
            ids.append(_drawn(logits[0, -1].float().cpu(), temperature, generator))
            unread = torch.tensor([ids[-1:]], device=unread.device)
    return decode(tokenizer, ids)


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator))
