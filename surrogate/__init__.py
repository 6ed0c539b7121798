"""Surrogate models of PDE simulations when simulations are few."""

__version__ = "0.1.0"

__all__ = ["__version__"]
