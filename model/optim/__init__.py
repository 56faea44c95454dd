"""Deep optimizers: every optimizer is a memory of gradients (Nested Learning §4). Pure rules, and `torch.optim.Optimizer`s made of them.

rule.py            what a rule is; RuleOptimizer steps a torch model by any rule
momentum.py        Sgd, Momentum, PreconditionedMomentum, HigherOrderMomentum
delta_momentum.py  DeltaMomentum: erase along the gradient before writing
deep_momentum.py   DeepMomentum: the momentum is a network
newton_schulz.py   orthogonalisation by matrix products
muon.py  m3.py     Muon and M3, multi-scale momentum
adamw.py           AdamW
dgd.py             DGD: delta gradient descent on the inputs of linear layers
split.py           which parameters are matrices for Muon and M3
frequency.py       Frequencies: parameter groups that change at their own period of training tokens
"""

from model.optim.adamw import AdamW
from model.optim.deep_momentum import DeepMomentum
from model.optim.delta_momentum import DeltaMomentum
from model.optim.dgd import DGD
from model.optim.frequency import Frequencies, LevelGroup, LevelReport
from model.optim.m3 import M3
from model.optim.momentum import HigherOrderMomentum, Momentum, PreconditionedMomentum, Sgd
from model.optim.muon import Muon
from model.optim.newton_schulz import newton_schulz
from model.optim.rule import Rule, RuleOptimizer
from model.optim.split import Split, split_matrices

__all__ = [
    "DGD",
    "M3",
    "AdamW",
    "DeepMomentum",
    "DeltaMomentum",
    "Frequencies",
    "HigherOrderMomentum",
    "LevelGroup",
    "LevelReport",
    "Momentum",
    "Muon",
    "PreconditionedMomentum",
    "Rule",
    "RuleOptimizer",
    "Sgd",
    "Split",
    "newton_schulz",
    "split_matrices",
]
