"""GNvpro: variable projection by Gauss-Newton steps in a Krylov trust region, for data that fit in memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim import Optimizer

from surrogate.errors import ConfigError, NumericalError
from surrogate.models.heads import Head
from surrogate.slimtik import NormalEquations, tikhonov

__all__ = ["GNvpro", "KrylovPath"]

Pairs = Sequence[tuple[Tensor, Tensor]]
Product = Any  # of a matrix with a vector: Callable[[Tensor], Tensor]

ACCEPTED = 1e-4  # least actual over predicted decrease
GOOD, POOR = 0.75, 0.25
SHRINKAGES = 12


@dataclass(frozen=True)
class KrylovPath:
    r"""The iterates of conjugate gradients on :math:`H s = -g`, along which Steihaug's step is computed for any radius.

    Their norms increase, so the step for a radius is where the broken line through them leaves the ball.

    Arguments:
        points: The iterates from zero on.
        products: H times each of them.
        gradient: g.
    """

    points: list[Tensor]
    products: list[Tensor]
    gradient: Tensor

    @classmethod
    def of(cls, product: Product, gradient: Tensor, *, radius: float, most: int, tolerance: float) -> KrylovPath:
        """Run conjugate gradients up to a radius, a number of products, or a relative residual.

        Arguments:
            product: Multiplies a vector by the positive semi-definite H.
            gradient: g.
            radius: The path ends with the first point outside.
            most: Most products.
            tolerance: Residual relative to the gradient's norm at which the path ends.
        """
        point, image = torch.zeros_like(gradient), torch.zeros_like(gradient)
        path = cls([point], [image], gradient)
        residual = -gradient
        direction, power = residual, residual @ residual
        for _ in range(most):
            Hd = product(direction)
            curvature = direction @ Hd
            if curvature <= torch.finfo(gradient.dtype).eps * power:  # flat: the model falls up to the boundary
                far = 2 * radius / direction.norm()
                path.points.append(point + far * direction)
                path.products.append(image + far * Hd)
                break
            length = power / curvature
            point, image = point + length * direction, image + length * Hd
            residual = residual - length * Hd
            path.points.append(point)
            path.products.append(image)
            before, power = power, residual @ residual
            if point.norm() > radius or power.sqrt() <= tolerance * gradient.norm():
                break
            direction = residual + (power / before) * direction
        return path

    def step(self, radius: float) -> tuple[Tensor, float]:
        """Return Steihaug's step for a radius and the decrease of the quadratic model."""
        for first, second, Hfirst, Hsecond in zip(
            self.points, self.points[1:], self.products, self.products[1:], strict=False
        ):
            if second.norm() > radius:
                direction = second - first
                a, b, c = direction @ direction, first @ direction, first @ first - radius**2
                share = -c / (b + (b * b - a * c).clamp_min(0).sqrt())  # the point of the segment with norm `radius`
                return self._with_decrease(first + share * (second - first), Hfirst + share * (Hsecond - Hfirst))
        return self._with_decrease(self.points[-1], self.products[-1])

    def _with_decrease(self, point: Tensor, image: Tensor) -> tuple[Tensor, float]:
        return point, -float(self.gradient @ point + 0.5 * (point @ image))


class GNvpro(Optimizer):
    r"""Gauss-Newton variable projection: the head is eliminated exactly, the features take trust-region steps.

    .. math:: F(\theta) = \min_W \frac1{n M} \|A(\theta) W - C\|^2 + \frac{\alpha b}{n M} \|W\|^2
              + \frac{\beta}2 \|\theta\|^2

    At the minimum over W the gradient of F is the partial one with W held fixed. Gauss-Newton's matrix is
    :math:`\frac2{nM} T^\top P T + \beta I` with :math:`T v = (\partial A \cdot v) W`, by forward differentiation, and
    :math:`P = I - A (A^\top A + \alpha b I)^{-1} A^\top` (Kaufman's form); its products need the head's Gram matrix,
    which has been factorised for W already. Steps are Steihaug's, and the radius follows the ratio of actual to
    predicted decrease.

    .. code-block:: python

        optimizer = GNvpro(model.features, model.head)
        for _ in range(20):
            value = optimizer.backward([(x, y)])    # head solved for, gradient of F on the features
            optimizer.step([(x, y)])                # one trust-region step

    All data are given at every call, in parts as small as memory asks for.

    Arguments:
        features: The features; set them to evaluation mode where dropout or BatchNorm are among them.
        head: The head; its parameters are excluded from the gradient.
        regularization: alpha, on the scale of slimTrain's running sum (per sample).
        weight_decay: beta.
        radius: First radius relative to the norm of the features' parameters.
        krylov: Most products with Gauss-Newton's matrix in a step.

    Raises:
        ConfigError: An argument is out of range, or the features have no parameter.

    Source: Newman, Ruthotto, Hart, van Bloemen Waanders, *Train like a (Var)Pro*, SIAM J. Math. Data Sci. 3(4), 2021,
    arXiv 2007.13171; Kaufman, BIT 15, 1975; Steihaug, SIAM J. Numer. Anal. 20(3), 1983.
    """

    def __init__(
        self,
        features: nn.Module,
        head: Head,
        *,
        regularization: float = 1e-6,
        weight_decay: float = 0.0,
        radius: float = 0.1,
        krylov: int = 20,
    ) -> None:
        names = {name: parameter for name, parameter in features.named_parameters() if parameter.requires_grad}
        if not names:
            raise ConfigError("the features have no parameter to train; use optimizer elm, or another network")
        if not (regularization > 0 and weight_decay >= 0 and radius > 0 and krylov >= 1):
            raise ConfigError(
                f"regularization={regularization}, radius={radius}, weight_decay={weight_decay}, krylov={krylov}: the "
                "first two must be above zero, the others zero and one or more"
            )
        start = radius * float(parameters_to_vector(names.values()).detach().norm())
        super().__init__(list(names.values()), {"lr": 1.0, "radius": start})
        self.features, self.head, self.names = features, head.requires_grad_(False), list(names)
        self.regularization, self.weight_decay, self.krylov = regularization, weight_decay, krylov
        self.diagnostics: dict[str, float] = {}
        self._scratch = copy.deepcopy(head)
        self._value, self._count = float("nan"), 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The features' parameters."""
        parameters: list[nn.Parameter] = self.param_groups[0]["params"]
        return parameters

    @property
    def radius(self) -> float:
        """The radius of the trust region."""
        return float(self.param_groups[0]["radius"])

    def backward(self, pairs: Pairs) -> Tensor:
        """Solve for the head and leave the gradient of F on the features' parameters.

        Arguments:
            pairs: Inputs and targets of all data.

        Returns:
            The mean squared error with the new head, with shape ().

        Raises:
            NumericalError: Features or targets are not finite; the head is as before.
        """
        self._sums = self._gathered(pairs)
        self._count = sum(targets.numel() for _, targets in pairs)
        self._value, error = self._projected(self._sums)
        self.zero_grad()
        for inputs, targets in pairs:
            output = self.head(self.features(inputs))
            (nn.functional.mse_loss(output, targets) * (len(inputs) / self._sums.samples)).backward()
        if self.weight_decay:
            for parameter in self.parameters:
                parameter.grad = parameter.grad + self.weight_decay * parameter.detach()  # type: ignore[operator]
        return torch.tensor(error, device=self.head.weight.device)

    def step(self, pairs: Pairs) -> None:  # type: ignore[override]
        """Take one trust-region step from the parameters at which `backward` was called with the same data."""
        gradient = parameters_to_vector(
            parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            for parameter in self.parameters
        ).detach()
        start, weights = parameters_to_vector(self.parameters).detach().clone(), self.head.matrix()
        radius, path = self.radius, self._path(pairs, gradient)
        for _ in range(SHRINKAGES):
            step, predicted = path.step(radius)
            ratio = self._ratio(pairs, start + step, predicted)
            if ratio > ACCEPTED:
                break
            radius *= 0.25
        else:  # nothing falls any more, to rounding
            self._assign(start)
            self.head.assign_(weights)
            step = torch.zeros_like(step)
        length = float(step.norm())
        if ratio > GOOD and length > 0.9 * radius:
            radius *= 2
        elif ACCEPTED < ratio < POOR:
            radius *= 0.5
        self.param_groups[0]["radius"] = radius
        self.diagnostics = {"radius": radius, "krylov": float(len(path.points) - 1), "step_norm": length}

    def _path(self, pairs: Pairs, gradient: Tensor) -> KrylovPath:
        tolerance = min(0.1, float(gradient.norm()) ** 0.5)
        product = self._product(pairs)
        return KrylovPath.of(product, gradient, radius=self.radius, most=self.krylov, tolerance=tolerance)

    @torch.no_grad()
    def _ratio(self, pairs: Pairs, parameters: Tensor, predicted: float) -> float:
        """Return actual over predicted decrease at a trial point; features and head stay there."""
        self._assign(parameters)
        try:
            value, _ = self._projected(self._gathered(pairs))
        except NumericalError:
            return -1.0
        return (self._value - value) / max(predicted, torch.finfo(torch.float64).tiny)

    def _assign(self, parameters: Tensor) -> None:
        vector_to_parameters(parameters, self.parameters)

    @torch.no_grad()
    def _gathered(self, pairs: Pairs) -> NormalEquations:
        sums = NormalEquations.zeros(*self.head.shape, self.head.weight.device)
        for inputs, targets in pairs:
            sums = sums + self.head.normal_equations(self.features(inputs), targets)
        return sums

    def _projected(self, sums: NormalEquations) -> tuple[float, float]:
        """Assign the best head; return F and the mean squared error with it."""
        fit = tikhonov(sums, regularization=self.regularization)
        self.head.assign_(fit.weights)
        error = fit.residual * sums.equations / self._count
        penalty = self.regularization * sums.samples / self._count * float(fit.weights.square().sum())
        decay = 0.5 * self.weight_decay * sum(float(p.detach().square().sum()) for p in self.parameters)
        return error + penalty + decay, error

    def _product(self, pairs: Pairs) -> Product:
        """Return the function that multiplies by Gauss-Newton's matrix."""
        sums = self._sums
        damped = sums.gram.clone()
        damped.diagonal().add_(self.regularization * sums.samples)
        factor = torch.linalg.cholesky(damped)
        names, shapes = self.names, [parameter.shape for parameter in self.parameters]
        current = {name: p.detach() for name, p in zip(names, self.parameters, strict=True)}

        def unflatten(vector: Tensor) -> dict[str, Tensor]:
            parts = vector.split([shape.numel() for shape in shapes])
            return {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}

        def product(vector: Tensor) -> Tensor:
            tangents = [self._tangent(inputs, current, unflatten(vector)) for inputs, _ in pairs]
            cross = sum((self._cross(z, u) for z, u in tangents), torch.zeros_like(sums.cross))  # A'T v
            self._scratch.assign_(torch.cholesky_solve(cross, factor))
            result = self.weight_decay * vector
            for (inputs, _), (z, u) in zip(pairs, tangents, strict=True):
                projected = u - self._scratch(z).detach()
                back = self._transposed(inputs, current, projected * (2 / self._count))
                result = result + torch.cat([back[name].flatten() for name in names])
            return result

        return product

    def _transposed(self, inputs: Tensor, at: dict[str, Tensor], values: Tensor) -> dict[str, Tensor]:
        """Multiply the transposed derivative of the outputs by values in their shape."""

        def outputs(parameters: dict[str, Tensor]) -> Tensor:
            return self.head(torch.func.functional_call(self.features, parameters, (inputs,)))

        pulled: dict[str, Tensor] = torch.func.vjp(outputs, at)[1](values)[0]
        return pulled

    def _tangent(self, inputs: Tensor, at: dict[str, Tensor], along: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the features z and the derivative of the outputs in a direction, the head held fixed."""

        def both(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            z = torch.func.functional_call(self.features, parameters, (inputs,))
            return self.head(z), z

        derivative: Any = torch.func.jvp(both, (at,), (along,), has_aux=True)
        return derivative[2], derivative[1]

    def _cross(self, z: Tensor, values: Tensor) -> Tensor:
        """Compute A'u, the gradient of <A W, u> over W."""
        scratch = self._scratch
        parameters = dict(scratch.named_parameters())
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        gradients = torch.autograd.grad(scratch(z), list(parameters.values()), values)
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.requires_grad_(False).copy_(gradient)
        return scratch.matrix().double()
