"""slimTik, the linear algebra of slimTrain: tensors in, tensors out.

A batch becomes `NormalEquations`; the Gram matrices of the last batches (`Memory`) are factorised (`Spectrum`), which
gives residual and trace as functions of the damping (`Curve`); a rule and a search choose the damping, and `step`
updates the weights. Normal equations of all data give the exact solution (`tikhonov`) and its `Posterior`;
those of each sample or simulation the solution of least error on samples left out (`cross_validated`).
"""

from surrogate.slimtik.blocks import Blocks
from surrogate.slimtik.cross_validation import cross_validated
from surrogate.slimtik.curve import Curve
from surrogate.slimtik.memory import Memory, depth_for_rows
from surrogate.slimtik.normal_equations import NormalEquations
from surrogate.slimtik.posterior import Posterior, predictive_leverage, predictive_std
from surrogate.slimtik.proximal import ProximalSolution, proximal_step, warmup_speed
from surrogate.slimtik.selection import (
    RULES,
    SEARCHES,
    Bounded,
    Bounds,
    Constant,
    HalfSum,
    Rule,
    Search,
    rule_of,
    sdp,
    search_of,
    sgcv,
    supre,
)
from surrogate.slimtik.solve import Solution, step
from surrogate.slimtik.spectrum import Spectrum
from surrogate.slimtik.tikhonov import TikhonovFit, tikhonov

__all__ = [
    "RULES",
    "SEARCHES",
    "Blocks",
    "Bounded",
    "Bounds",
    "Constant",
    "Curve",
    "HalfSum",
    "Memory",
    "NormalEquations",
    "Posterior",
    "ProximalSolution",
    "Rule",
    "Search",
    "Solution",
    "Spectrum",
    "TikhonovFit",
    "cross_validated",
    "depth_for_rows",
    "predictive_leverage",
    "predictive_std",
    "proximal_step",
    "rule_of",
    "sdp",
    "search_of",
    "sgcv",
    "step",
    "supre",
    "tikhonov",
    "warmup_speed",
]
