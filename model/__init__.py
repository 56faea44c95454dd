"""The learning machine: encoder, levels, memory, state, checkpoint. Knows nothing of services, users, files or time.

Two callers with the same configuration and the same lessons in the same order get the same bits.
"""

from model import checkpoint
from model.answering import Asked, Candidate, Standing
from model.checkpoint import CheckpointRefused
from model.codes import CodeBook
from model.config import RecallConfig
from model.parcel import Parcel
from model.recall import Lesson, Recall
from model.slots import NoSlot, Slots
from model.state import State

__all__ = [
    "Asked",
    "Candidate",
    "CheckpointRefused",
    "CodeBook",
    "Lesson",
    "NoSlot",
    "Parcel",
    "Recall",
    "RecallConfig",
    "Slots",
    "Standing",
    "State",
    "checkpoint",
]
