"""Residual and trace of a batch after a slimTik step, as functions of the damping."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.slimtik.normal_equations import NormalEquations
from surrogate.slimtik.spectrum import Border, Spectrum

__all__ = ["Curve", "Elimination"]


@dataclass(frozen=True)
class Curve:
    r"""Residual and trace of a batch after a step, as functions of the damping.

    The step of damping lambda shrinks the weights :math:`W_0` after the step of damping zero,

    .. math:: W_\lambda = W_0 - \lambda X, \qquad X = (H + (\Lambda + \lambda) I)^{-1} W_0, \qquad
              W_0 = W - (H + \Lambda I)^{-1} (G W - B).

    With :math:`H = V \operatorname{diag}(\sigma) V^\top`, :math:`E = V^\top W_0`, :math:`P = V^\top (G W_0 - B)` and
    :math:`D = 1 / (\sigma + \Lambda + \lambda)` this gives

    .. math:: \rho = \rho_0 - 2 \lambda \langle D E, P \rangle + \lambda^2 \langle D E, V^\top G V D E \rangle, \qquad
              t = M \sum_j (V^\top G V)_{jj} D_j,

    two linear forms and a quadratic form in D, so that one product serves all dampings: O(K k) for each with blocks of
    k columns. A border of H adds its `Elimination`.

    Arguments:
        weights: The weights W_0 in the eigenbasis, by blocks and a border in each, with shape (P, w, M).
        shifted: Eigenvalues plus the running sum, by blocks, with shape (P, 1, k).
        start: Squared residual norm per sample of W_0, with shape ().
        forms: Factors of D, with shape (P, k, .): the quadratic form (k columns), then the linear forms of
            trace and residual, then those of an elimination.
        elimination: The effect of a border, if there is one.
        running_sum: Sum of all dampings so far, with shape ().
        equations: Number of scalar equations m = n M.
        samples: Number of samples b.
    """

    weights: Tensor
    shifted: Tensor
    start: Tensor
    forms: Tensor
    elimination: Elimination | None
    running_sum: Tensor
    equations: int
    samples: int

    @classmethod
    def of(cls, spectrum: Spectrum, weights: Tensor, batch: NormalEquations, running_sum: Tensor) -> Curve:
        """Return the curve of a batch about the weights (K, M)."""
        (k, M), blocks = (spectrum.values.shape[-1], weights.shape[1]), spectrum.blocks
        V, G = spectrum.basis, batch.arranged(blocks).packed_G.view(-1, *spectrum.basis.shape[1:])
        rows = spectrum.split(torch.cat([weights, batch.B], 1))
        rotated = torch.bmm(V.mT, torch.bmm(G, V))
        start, B = torch.bmm(V.mT, rows).split(M, 2)
        if spectrum.border is not None:
            B[1:, k] = 0.0  # the row of the border is the sum over the blocks
        gradient = torch.baddbmm(B, rotated, start, beta=-1)
        W = start - spectrum.shrunk(gradient, running_sum)
        gradient = torch.baddbmm(B, rotated, W, beta=-1)
        E, P, inner = W[:, :k], gradient[:, :k], rotated[:, :k, :k]
        trace = M * inner.diagonal(dim1=1, dim2=2)
        forms = [inner * torch.bmm(E, E.mT), trace[..., None], (E * P).sum(2, keepdim=True)]
        elimination = None
        if spectrum.border is not None:
            elimination, more = Elimination.of(spectrum.border, rotated, W, gradient)
            forms += more
        return cls(
            weights=W,
            shifted=(spectrum.values + running_sum).view(len(E), 1, -1),
            start=torch.dot((gradient - B).flatten(), W.flatten()) + batch.e,
            forms=torch.cat(forms, 2),
            elimination=elimination,
            running_sum=running_sum,
            equations=batch.equations,
            samples=batch.samples,
        )

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared residual norm per sample and trace at the dampings `points`, all of shape (T,)."""
        D = (self.shifted + points[:, None]).reciprocal_()
        products, k = torch.bmm(D, self.forms), D.shape[2]
        second = products[:, :, :k].mul_(D).sum((0, 2))
        trace, first = products[:, :, k : k + 2].sum(0).unbind(1)
        if self.elimination is not None:
            more = self.elimination(D, products[:, :, k + 2 :], self.running_sum + points)
            first, second, trace = first + more[0], second + more[1], trace + more[2]
        rho = torch.addcmul(self.start, points, torch.sub(points * second, first, alpha=2))
        rounding = torch.finfo(D.dtype).eps * self.start  # a residual below it carries no information
        return torch.maximum(rho, rounding), trace


@dataclass(frozen=True)
class Elimination:
    r"""Terms that the elimination of a border adds to a curve.

    Let h and g be the couplings of H and G, :math:`w = D h`, :math:`v = (w, -1)`, :math:`u = v^\top G v`, and e and p
    the last rows of :math:`W_0` and :math:`G W_0 - B`. The last row of X is :math:`x = (e - w^\top E) / s`, the rest
    of it :math:`D E - w x`. This adds

    .. math:: -\langle x, w^\top P - p \rangle, \qquad
              \langle x, u x - 2 (V^\top G V w - g)^\top D E \rangle \quad\text{and}\quad M u / s

    to :math:`\langle X, P \rangle`, to :math:`\langle X, G X \rangle` and to the trace.

    Arguments:
        inner: E, and h as its last column, with shape (P, k, M + 1).
        coupling: The coupling g, with shape (P, 1, k).
        corners: The last entries of the diagonals of H and G, each with shape ().
        last: e and p, one after the other, with shape (2 M,).
    """

    inner: Tensor
    coupling: Tensor
    corners: tuple[Tensor, Tensor]
    last: Tensor

    @classmethod
    def of(cls, border: Border, gram: Tensor, weights: Tensor, gradient: Tensor) -> tuple[Elimination, list[Tensor]]:
        """Return the elimination of the border of a spectrum, and its factors of D, with shapes (P, k, .).

        Arguments:
            border: The border of H.
            gram: V'GV and its border, with shape (P, k + 1, k + 1).
            weights: E and, in each block, e, with shape (P, k + 1, M).
            gradient: P and parts of p that add up to it, with shape (P, k + 1, M).
        """
        k = gram.shape[2] - 1
        E, P, inner = weights[:, :k], gradient[:, :k], gram[:, :k, :k]
        h, g = border.coupling[..., None], gram[:, :k, k:]
        last = torch.cat([weights[0, k], gradient[:, k].sum(0)])
        forms = [h * torch.cat([E, P, h, g], 2), h * inner]
        return cls(torch.cat([E, h], 2), g.mT, (border.corner, gram[0, k, k]), last), forms

    def __call__(self, D: Tensor, products: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the terms added to <X, P>, <X, G X> and the trace.

        Arguments:
            D: With shape (P, T, k).
            products: The products of D with the forms, with shape (P, T, 2 M + 2 + k); overwritten.
            shift: The running sums, with shape (T,).
        """
        M = len(self.last) // 2
        eliminated, other = products[:, :, : 2 * M].sum(0) - self.last, products[:, :, 2 * M : 2 * M + 2].sum(0)
        s = torch.maximum(self.corners[0] + shift - other[:, 0], shift)
        x = eliminated[:, :M] / -s[:, None]
        y = torch.bmm(products[:, :, 2 * M + 2 :].sub_(self.coupling).mul_(D), self.inner).sum(0)
        u = y[:, M] - other[:, 1] + self.corners[1]
        first = -(x * eliminated[:, M:]).sum(1)
        second = (x * (u[:, None] * x - 2 * y[:, :M])).sum(1)
        return first, second, M * u / s
