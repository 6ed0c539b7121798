"""The mean of surrogates that were trained on the folds of a cross-validation, each with its own normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from surrogate.errors import ConfigError
from surrogate.models.signature import Signature
from surrogate.models.surrogate import Surrogate
from surrogate.normalize import Normalizer

__all__ = ["FoldMean"]


class FoldMean(nn.Module):
    r"""Mean of the predictions of K surrogates in physical units.

    .. math:: p(y) = \frac1K \sum_{k=1}^K p_k(y)

    Arguments:
        surrogates: One for each fold, of one signature.

    Raises:
        ConfigError: Their inputs or targets differ.
    """

    has_std = False

    def __init__(self, surrogates: Sequence[Surrogate]) -> None:
        super().__init__()
        first = surrogates[0].signature
        if any((s.signature.inputs, s.signature.targets) != (first.inputs, first.targets) for s in surrogates):
            raise ConfigError("the mean of folds needs surrogates of one signature")
        self.surrogates = nn.ModuleList(surrogates)
        self.signature: Signature = first
        self.inputs: Normalizer = surrogates[0].inputs  # those of the others differ by the choice of simulations

    def each(self, inputs: Tensor) -> Tensor:
        """Predict by the surrogate of every fold: (B, C, *input_grid) -> (K, B, M, *S)."""
        return torch.stack([surrogate(inputs) for surrogate in self.surrogates])

    def forward(self, inputs: Tensor) -> Tensor:
        return self.each(inputs).mean(0)
