"""A bank's language model: a HOPE model whose levels learn what is said to a bank, and speak from it.

Read in this order: `phrasing` (a conversation as text), `speaker` (a state learns a text, reads a conversation, goes on), `sleep` (what was
said moves into the slow levels), `opening` (which model it is: the one that is shipped in `small/`, or any decoder's folder).
"""

from model.language.opening import LanguageRefused, opened
from model.language.phrasing import END, Line, exchange, prompt, question
from model.language.speaker import LEARNED, Reading, Sampling, Speaker

__all__ = ["END", "LEARNED", "LanguageRefused", "Line", "Reading", "Sampling", "Speaker", "exchange", "opened", "prompt", "question"]
