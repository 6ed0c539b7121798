"""A trained surrogate put to use on data or a table of parameters."""

from surrogate.prediction.predict import predict

__all__ = ["predict"]
