"""A trained surrogate put to use on data or a table of parameters."""

from surrogate.prediction.predict import predict
from surrogate.prediction.signature import signature_of

__all__ = ["predict", "signature_of"]
