"""The `optimizer:` section of a configuration: one class of settings for each optimizer."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from surrogate.config import Settings
from surrogate.slimtik import rule_of

__all__ = [
    "AdamSettings",
    "AdamWSettings",
    "ExtremeLearningSettings",
    "FitSettings",
    "FullBatchSettings",
    "GNvproSettings",
    "LBFGSSettings",
    "MuonSettings",
    "OptimizerBase",
    "OptimizerSettings",
    "RaceSettings",
    "SgdSettings",
    "SlimTrainSettings",
]

Schedule = ("schedule", "warmup", "decay_to")
Minibatch = ("accumulate", "clip_norm", "precision")


class OptimizerBase(Settings):
    """Base of the settings of all optimizers.

    Attributes:
        unused: Options of `training` that would have no effect, so that they are refused.
        full_batch: A step takes all training data at once.
    """

    unused: ClassVar[tuple[str, ...]] = ()
    full_batch: ClassVar[bool] = False


class AdamSettings(OptimizerBase):
    """Adam on features and head alike.

    Arguments:
        learning_rate: Learning rate.
        weight_decay: Multiple of the weights that is added to the gradient.
    """

    name: Literal["adam"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)


class AdamWSettings(OptimizerBase):
    """Adam with decoupled weight decay on features and head alike.

    Arguments:
        learning_rate: Learning rate.
        weight_decay: Share of the weights, times the learning rate, that a step takes off.
    """

    name: Literal["adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)


class SgdSettings(OptimizerBase):
    """Stochastic gradient descent with momentum on features and head alike.

    Arguments:
        learning_rate: Learning rate.
        momentum: Share of the last step that is added to the next.
        weight_decay: Multiple of the weights that is added to the gradient.
    """

    name: Literal["sgd"] = "sgd"
    learning_rate: float = Field(1e-2, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)


class MuonSettings(OptimizerBase):
    """Muon on the matrices of the features, AdamW on all else: convolution kernels, vectors and the head.

    Updates of matrices are scaled as AdamW's, so that one learning rate serves both.

    Arguments:
        learning_rate: Learning rate.
        weight_decay: Share of the weights, times the learning rate, that a step takes off.
        momentum: Share of the running mean of the gradients of matrices that is kept.
    """

    name: Literal["muon"] = "muon"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    momentum: float = Field(0.95, ge=0, lt=1)

    @model_validator(mode="after")
    def _there(self) -> Self:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"torch {torch.__version__} has no Muon; install torch 2.9 or later, or take adamw")
        return self


class SlimTrainSettings(OptimizerBase):
    """A base optimizer on the features, the regularised least-squares solve on the head.

    Arguments:
        base: Optimizer of the features; `sgd` has momentum 0.9.
        learning_rate: Its learning rate.
        weight_decay: Its weight decay.
        memory_depth: Number r of earlier batches whose Gram matrices are remembered.
        regularization: Start L0 of the running sum of all lambda.
        rule: What lambda minimises; `sdp` and `supre` need `noise_variance`.
        search: Among which lambda; `constant` takes L0 at every step, whatever the rule.
        noise_variance: Variance of the noise in the normalised targets.
        tau: Safety factor of `sdp`.
        lower_bound: Smallest value of the running sum.
        memory_rows: Rows in memory for each feature of the head, instead of `memory_depth`; the first batch sets the
            depth, at most 200. About 30 where a batch has fewer rows than the head has features.
        head_warmup: Share of all steps over which the head gains speed; zero is the paper's method.
        proximal: Relative damping c of a proximal step instead of the paper's; then rule and search have no effect.
        ridge: Relative ridge of a proximal step, as a multiple of the mean eigenvalue of a batch.
    """

    name: Literal["slimtrain"] = "slimtrain"
    base: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    memory_depth: int = Field(5, ge=0)
    regularization: float = Field(0.05, gt=0)
    rule: Literal["sgcv", "sdp", "supre"] = "sgcv"
    search: Literal["half-sum", "bounded", "bounds", "constant"] = "half-sum"
    noise_variance: float | None = Field(None, gt=0)
    tau: float = Field(2.0, gt=0)
    lower_bound: float = Field(1e-7, gt=0)
    memory_rows: float | None = Field(None, gt=0)
    head_warmup: float = Field(0.0, ge=0, le=1)
    proximal: float | None = Field(None, ge=0)
    ridge: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _noise(self) -> Self:
        rule_of(self.rule, noise_variance=self.noise_variance)
        if self.proximal is not None and (self.rule, self.search) != ("sgcv", "half-sum"):
            raise ValueError("rule and search have no effect with proximal; leave them out")
        if self.ridge and self.proximal is None:
            raise ValueError("ridge has no effect without proximal; give proximal: 1e-3, or leave it out")
        return self


Candidate = Annotated[
    AdamSettings | AdamWSettings | SgdSettings | MuonSettings | SlimTrainSettings, Field(discriminator="name")
]


class RaceSettings(OptimizerBase):
    """Several optimizers, each for the first epochs of a run; the best learning rate of every method goes on.

    All of it together takes `training.epochs`: with N candidates, trials of t epochs and k of them that go on each of
    these trains for `(epochs - (N - k) t) / k` epochs, rounded down, for which its learning-rate schedule is made from
    the start. The result is the weighted mean of the k networks. Its weights, which are not negative and add up to one,
    minimise the squared error on the validation data.

    Arguments:
        candidates: The optimizers, with their settings; those that differ in the learning rate alone are one method.
        trial: Share of all epochs that each candidate gets.
        keep: Which go on: the best of `each` method, or the `best` of all.
    """

    unused: ClassVar[tuple[str, ...]] = ("steps", "members")
    name: Literal["race"] = "race"
    candidates: tuple[Candidate, ...] = Field(
        (
            SlimTrainSettings(learning_rate=1e-2),
            SlimTrainSettings(learning_rate=1e-3),
            SlimTrainSettings(learning_rate=1e-2, head_warmup=0.333),
            SlimTrainSettings(learning_rate=1e-3, head_warmup=0.333),
        ),
        min_length=2,
        max_length=20,
    )
    trial: float = Field(0.05, gt=0, lt=1)
    keep: Literal["each", "best"] = "each"

    @model_validator(mode="after")
    def _short(self) -> Self:
        if len(self.candidates) * self.trial >= 1:
            raise ValueError(
                f"trial: {len(self.candidates)} candidates with {self.trial:g} of the epochs each leave none for those "
                f"that go on; choose less than {1 / len(self.candidates):.2g}"
            )
        return self

    @property
    def methods(self) -> list[list[int]]:
        """The positions of the candidates of each method; with `keep: best` all are one."""
        groups: dict[str, list[int]] = {}
        for number, candidate in enumerate(self.candidates):
            method = candidate.model_dump_json(exclude={"learning_rate"}) if self.keep == "each" else ""
            groups.setdefault(method, []).append(number)
        return list(groups.values())


class FullBatchSettings(OptimizerBase):
    """Base of the methods whose step takes all training data: an epoch is one step.

    They minimise the network in evaluation mode, without dropout and with BatchNorm's averages fixed, since their
    objective must be the same function at every evaluation.

    Arguments:
        memory_mb: Most megabytes of training data to hold in memory; more are refused.
    """

    full_batch: ClassVar[bool] = True
    memory_mb: int = Field(1024, ge=1)


class LBFGSSettings(FullBatchSettings):
    """L-BFGS with a strong-Wolfe line search on features and head alike.

    Arguments:
        learning_rate: First trial step of the line search.
        history: Number of remembered pairs of steps and gradient changes.
        inner_steps: Most L-BFGS iterations in one epoch.
    """

    unused: ClassVar[tuple[str, ...]] = Minibatch
    name: Literal["lbfgs"] = "lbfgs"
    learning_rate: float = Field(1.0, gt=0)
    history: int = Field(20, ge=1)
    inner_steps: int = Field(20, ge=1)


class GNvproSettings(FullBatchSettings):
    """Variable projection by Gauss-Newton steps in a Krylov trust region; the head is solved for exactly.

    Arguments:
        regularization: alpha of the head's penalty, on the scale of slimTrain's running sum (per sample).
        weight_decay: Penalty of the features' parameters, half of it times their squared norm.
        radius: First radius of the trust region, relative to the norm of the features' parameters.
        krylov: Most conjugate-gradient iterations in a step.
    """

    unused: ClassVar[tuple[str, ...]] = (*Minibatch, *Schedule, "loss")
    name: Literal["gnvpro"] = "gnvpro"
    regularization: float = Field(1e-6, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    radius: float = Field(0.1, gt=0)
    krylov: int = Field(20, ge=1)


class ExtremeLearningSettings(OptimizerBase):
    """Extreme learning machine: random features as they are, one exact solve for the head, one epoch.

    Arguments:
        regularization: alpha of the head's penalty (per sample); None chooses it by generalised cross-validation.
    """

    unused: ClassVar[tuple[str, ...]] = (*Minibatch, *Schedule, "loss", "rollout", "refit", "average")
    name: Literal["elm"] = "elm"
    regularization: float | None = Field(None, ge=0)


class FitSettings(OptimizerBase):
    """One fit to all training data, for families that no step trains, such as `pod_gp`; one epoch."""

    unused: ClassVar[tuple[str, ...]] = (
        *Minibatch,
        *Schedule,
        *("loss", "rollout", "refit", "average", "members", "uncertainty", "compile"),
    )
    name: Literal["fit"] = "fit"


OptimizerSettings = Annotated[
    AdamSettings
    | AdamWSettings
    | SgdSettings
    | MuonSettings
    | SlimTrainSettings
    | RaceSettings
    | LBFGSSettings
    | GNvproSettings
    | ExtremeLearningSettings
    | FitSettings,
    Field(discriminator="name"),
]
