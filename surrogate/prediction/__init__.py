"""Predict with a trained surrogate from data or a table of parameters."""

from surrogate.prediction.predict import predict

__all__ = ["predict"]
