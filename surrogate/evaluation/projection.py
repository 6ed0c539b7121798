r"""Projection onto modes: the least error that they allow, and what of an error is reconstruction, what regression.

A surrogate that predicts coefficients of r orthonormal modes :math:`\Phi` gives :math:`p = \bar u + \Phi \hat c`. With
:math:`P q = \bar u + \Phi \Phi^\top (q - \bar u)` the projection of the target q, in normalised units,

.. math:: \|p - q\|^2 = \underbrace{\|P q - q\|^2}_{\text{reconstruction}} +
          \underbrace{\|p - P q\|^2}_{\text{regression}} ,

so that no coefficients have an error below the reconstruction: the projection floor. More modes lower the one, a better
regression or more simulations the other. Both are given relative to the target in the same units, without its mean
subtracted; for a single variable this is the relative L2 error.

On meshes of known volumes W, norms are integrals, :math:`\|f\|^2 = f^\top W f`, and P is the projection that is
orthogonal in them, :math:`P q = \bar u + \Phi (\Phi^\top W \Phi)^{-1} \Phi^\top W (q - \bar u)`.

Source: Hesthaven, Ubbiali, J. Comput. Phys. 363, 2018, doi 10.1016/j.jcp.2018.02.037, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import xarray as xr
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import DataError
from surrogate.evaluation.table import Columns
from surrogate.evaluation.volumes import Volumes
from surrogate.models.families.pod import ModesHead
from surrogate.models.layers.fitted import ReducedNetwork
from surrogate.models.layers.modes import leading_modes
from surrogate.models.surrogate import Surrogate

__all__ = ["SUMS", "Projection", "floor_of", "projection_of"]

SUMS = ("reconstruction", "regression", "projected_target")  # sums of squares in normalised units, for each sample


@dataclass(frozen=True)
class Projection:
    """Modes of the targets of a surrogate, in normalised units.

    Arguments:
        surrogate: The surrogate, whose normalisation counts.
        mean: Mean of the training targets, with shape (o,).
        modes: Orthonormal modes, with shape (o, r).
        within: True if the surrogate predicts coefficients of these modes, so that its error splits. Otherwise they are
            modes of an autoencoder's training data, as many as its latent size.
    """

    surrogate: Surrogate
    mean: Tensor
    modes: Tensor
    within: bool

    @torch.no_grad()
    def sums(self, batch: Batch, prediction: Tensor, volumes: Volumes | None = None) -> Columns:
        """Return the sums of squares of a batch, each with shape (B,); without a split `regression` is the whole error.

        Arguments:
            batch: Samples in physical units.
            prediction: Their predictions (B, M, *S), in physical units.
            volumes: Weights of the points, with which sums are integrals.
        """
        targets = self.surrogate.targets
        device = self.mean.device
        q, p = (targets(part.to(device).double()).flatten(1) for part in (batch.targets, prediction))
        zero = targets(torch.zeros_like(batch.targets[:1]).to(device).double()).flatten(1)
        weights = torch.ones_like(q[:1])
        coefficients = (q - self.mean) @ self.modes
        if volumes is not None:
            samples = batch.sample if len(volumes.values) > 1 else batch.sample[:1]
            weights = volumes.at(samples).to(device).repeat(1, batch.targets.shape[1])
            weighted = weights[..., None] * self.modes  # (B or 1, o, r)
            right = ((q - self.mean)[:, None] @ weighted).mT
            coefficients = (torch.linalg.pinv(self.modes.mT @ weighted, hermitian=True) @ right)[..., 0]
        projected = self.mean + coefficients @ self.modes.mT
        parts = (projected - q, p - (projected if self.within else q), q - zero)
        return {name: (weights * part.square()).sum(1).cpu().numpy() for name, part in zip(SUMS, parts, strict=True)}


def projection_of(surrogate: Surrogate, training: Callable[[], Iterable[Batch]]) -> Projection | None:
    """Return the modes that bound a surrogate's error, or that its latent size is compared with.

    Arguments:
        surrogate: The trained surrogate.
        training: Starts a pass over its training data, in physical units; read for autoencoders alone.

    Returns:
        None where there is neither.
    """
    network = surrogate.network
    head = network.head
    if isinstance(head, ModesHead):
        return Projection(surrogate, head.mean.double(), head.modes.double(), within=True)
    if isinstance(network, ReducedNetwork) and network.starts:  # modes of increments bound no error of the targets
        return None
    if isinstance(network, ReducedNetwork):
        return Projection(surrogate, network.mean, network.modes, within=True) if network.reduces_targets else None
    latent = getattr(surrogate.settings, "latent", None)
    shapes = surrogate.signature.shapes
    size = shapes.outputs * shapes.points
    if latent is None or latent >= size or any(surrogate.signature.may_miss(surrogate.signature.targets)):
        return None
    device = next(surrogate.parameters()).device

    def snapshots() -> Iterable[Tensor]:
        return (surrogate.targets(batch.targets.to(device)).flatten(1) for batch in training())

    try:
        modes = leading_modes(snapshots, size, latent, device=device)
    except DataError:  # fewer training samples than modes
        return None
    return Projection(surrogate, modes.mean, modes.vectors, within=False)


def floor_of(metrics: xr.Dataset) -> dict[str, float] | None:
    """Summarise the sums of an evaluation; None where it has none.

    Returns:
        Means over samples of the relative errors `floor` (reconstruction), `regression` and `total`, and `share`, the
        reconstruction's share of the squared error of all samples.
    """
    if SUMS[0] not in metrics:
        return None
    reconstruction, regression, target = (metrics[name].sum("time") for name in SUMS)
    target = target.where(target > 0)
    total = reconstruction + regression
    means = {"floor": reconstruction, "regression": regression, "total": total}
    return {name: float(((part / target) ** 0.5).mean()) for name, part in means.items()} | {
        "share": float(reconstruction.sum() / total.sum()) if float(total.sum()) else 0.0
    }
