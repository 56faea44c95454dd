"""The learning machine: encoder, levels, memory, state, checkpoint. Knows nothing of services, users, files or time.

Two callers with the same configuration and the same lessons in the same order get the same bits.
"""

from model import checkpoint
from model.checkpoint import CheckpointRefused
from model.codes import CodeBook
from model.config import RecallConfig
from model.recall import Candidate, Lesson, Recall
from model.state import State

__all__ = ["Candidate", "CheckpointRefused", "CodeBook", "Lesson", "Recall", "RecallConfig", "State", "checkpoint"]
