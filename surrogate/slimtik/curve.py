"""What a step of slimTik would do to a batch, as a function of the damping."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.slimtik.spectrum import Border, Spectrum
from surrogate.slimtik.statistics import Statistics

__all__ = ["Curve", "Elimination"]


@dataclass(frozen=True)
class Curve:
    r"""Residual and trace of a batch after a step, as functions of the damping.

    With :math:`H = V \operatorname{diag}(\sigma) V^\top`, :math:`P = V^\top (G W - B)`, :math:`Q = V^\top W` and
    :math:`D(\lambda) = 1 / (\sigma + \Lambda + \lambda)`, the step in the eigenbasis is
    :math:`S = D (P + \lambda Q)`, and

    .. math:: \rho = \rho_0 - 2 \langle S, P \rangle + \langle S, V^\top G V S \rangle, \qquad
              t = M \sum_j (V^\top G V)_{jj} D_j,

    a quadratic polynomial in lambda whose coefficients are linear and quadratic forms in D: O(K k) per point for
    blocks of k columns, after O(K k (k + M)) once. A border of H adds its `Elimination`.

    Arguments:
        gradient: G W - B, with shape (K, M).
        shifted: Eigenvalues plus the running sum, by blocks, with shape (P, k).
        start: Squared residual norm per sample before the step, with shape ().
        linear: Coefficients of D in the trace and in -2 <S, P> for powers 0 and 1 of lambda, with shape (P, k, 3).
        quadratic: Coefficients of D D' in <S, V'GV S> for powers 0, 1 and 2 of lambda, beside each other with shape
            (P, k, 3 k).
        elimination: The effect of a border, if there is one.
        running_sum: Sum of all dampings so far, with shape ().
        equations: Number of scalar equations m = n M.
        samples: Number of samples b.
    """

    gradient: Tensor
    shifted: Tensor
    start: Tensor
    linear: Tensor
    quadratic: Tensor
    elimination: Elimination | None
    running_sum: Tensor
    equations: int
    samples: int

    @classmethod
    def of(cls, spectrum: Spectrum, weights: Tensor, batch: Statistics, running_sum: Tensor) -> Curve:
        """The curve of a batch about the weights (K, M)."""
        W, G, B, M = weights, batch.G, batch.B, weights.shape[1]
        gradient = torch.addmm(B, G, W, beta=-1)
        PQ, rotated = spectrum.rotated(torch.cat([gradient, W], 1)), spectrum.transformed(G)
        P, Q = PQ.split(M, 2)
        products = torch.stack([P @ P.mT, P @ (2 * Q).mT, Q @ Q.mT])
        linear = torch.stack([M * rotated, -2 * products[0], -products[1]])
        return cls(
            gradient=gradient,
            shifted=(spectrum.values + running_sum).view(PQ.shape[:2]),
            start=((gradient - B) * W).sum() + batch.e,
            linear=linear.diagonal(dim1=2, dim2=3).permute(1, 2, 0),
            quadratic=(rotated * products).permute(1, 2, 0, 3).flatten(2),
            elimination=Elimination.of(spectrum, rotated, PQ, torch.cat([gradient[-1], W[-1]]), batch),
            running_sum=running_sum,
            equations=batch.equations,
            samples=batch.samples,
        )

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Squared residual norm per sample and trace at the dampings `points`, all of shape (T,)."""
        D = 1.0 / (self.shifted[:, None] + points[:, None])
        trace, *first = (D @ self.linear).sum(0).unbind(1)
        forms = (D @ self.quadratic).unflatten(2, (3, -1)) * D[:, :, None]
        second = forms.sum((0, 3)).unbind(1)
        rho = self.start + first[0] + second[0] + points * (first[1] + second[1] + points * second[2])
        if self.elimination is not None:
            residual, dof = self.elimination(points, D, self.running_sum + points)
            rho, trace = rho + residual, trace + dof
        rounding = torch.finfo(D.dtype).eps * self.start  # a residual below it carries no information
        return torch.maximum(rho, rounding), trace


@dataclass(frozen=True)
class Elimination:
    r"""What the elimination of a border adds to residual and trace.

    Let h and g be the couplings of H and G, :math:`w = D h`, :math:`v = (w, -1)`, :math:`u = v^\top G v`, and p, q the
    last rows of GW - B and W. The last row of the step is :math:`x = (a_p + \lambda a_q) / s` with
    :math:`a_p = p - w^\top P` and :math:`a_q = q - w^\top Q`, the rest of it :math:`S - w x`. This adds

    .. math:: \langle x, u x - 2 a_p - 2 (D (G w - g))^\top (P + \lambda Q) \rangle \quad\text{and}\quad M u / s.

    Arguments:
        own: Border of H.
        other: Border of G.
        gram: V'GV, with shape (P, k, k).
        inner: P and Q beside each other, with shape (P, k, 2 M).
        last: p and q, one after the other, with shape (2 M,).
    """

    own: Border
    other: Border
    gram: Tensor
    inner: Tensor
    last: Tensor

    @classmethod
    def of(cls, spectrum: Spectrum, gram: Tensor, inner: Tensor, last: Tensor, batch: Statistics) -> Elimination | None:
        """The elimination of the border of a spectrum; None where it has none."""
        other = spectrum.bordered(batch.G)
        return None if spectrum.border is None or other is None else cls(spectrum.border, other, gram, inner, last)

    def __call__(self, points: Tensor, D: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """What is added at the dampings `points` (T,), for D of shape (P, T, k) and their running sums `shift` (T,)."""
        M = len(self.last) // 2
        h, g = self.own.coupling[:, None], self.other.coupling[:, None]
        w = D * h
        s = torch.maximum(self.own.corner + shift - (w * h).sum((0, 2)), shift)
        Gw = w @ self.gram
        u = (w * (Gw - 2 * g)).sum((0, 2)) + self.other.corner
        ap, aq = (self.last - (w @ self.inner).sum(0)).split(M, 1)
        yp, yq = ((D * (Gw - g)) @ self.inner).sum(0).split(M, 1)
        x = (ap + points[:, None] * aq) / s[:, None]
        residual = (x * (u[:, None] * x - 2 * (ap + yp + points[:, None] * yq))).sum(1)
        return residual, M * u / s
