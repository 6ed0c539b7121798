"""A trained surrogate put to use on data or a table of parameters."""

from surrogate.prediction.signature import signature_of

__all__ = ["signature_of"]
