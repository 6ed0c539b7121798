"""Separable networks: nonlinear features, then a head that is linear in its weights."""

from surrogate.models.autoencoder import AutoencoderSettings, autoencoder
from surrogate.models.convnet import ConvNetSettings, convnet
from surrogate.models.heads import Head, head_of
from surrogate.models.registry import ModelSettings, Shapes, build, families, register, settings_union
from surrogate.models.separable import Separable, separate
from surrogate.models.surrogate import Signature, Surrogate

__all__ = [
    "AutoencoderSettings",
    "ConvNetSettings",
    "Head",
    "ModelSettings",
    "Separable",
    "Shapes",
    "Signature",
    "Surrogate",
    "autoencoder",
    "build",
    "convnet",
    "families",
    "head_of",
    "register",
    "separate",
    "settings_union",
]
