"""Separable networks: nonlinear features, then a head that is linear in its weights."""

from surrogate.models.autoencoder import AutoencoderSettings, autoencoder
from surrogate.models.convnet import ConvNetSettings, convnet
from surrogate.models.field_heads import FieldHead, dense_head
from surrogate.models.heads import Head, head_of
from surrogate.models.mlp import MlpSettings, mlp
from surrogate.models.registry import ModelSettings, Shapes, build, families, register, settings_union
from surrogate.models.separable import Separable, separate
from surrogate.models.surrogate import Signature, Surrogate

__all__ = [
    "AutoencoderSettings",
    "ConvNetSettings",
    "FieldHead",
    "Head",
    "MlpSettings",
    "ModelSettings",
    "Separable",
    "Shapes",
    "Signature",
    "Surrogate",
    "autoencoder",
    "build",
    "convnet",
    "dense_head",
    "families",
    "head_of",
    "mlp",
    "register",
    "separate",
    "settings_union",
]
