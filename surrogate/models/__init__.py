"""Separable networks: nonlinear features, then a head that is linear in its weights."""

from surrogate.models.antisymmetric import AntisymmetricSettings, antisymmetric
from surrogate.models.autoencoder import AutoencoderSettings, autoencoder
from surrogate.models.convnet import ConvNetSettings, convnet
from surrogate.models.deeponet import DeepONetSettings, deeponet
from surrogate.models.ensemble import ensemble
from surrogate.models.field_heads import FieldHead, dense_head
from surrogate.models.fno import FnoSettings, fno
from surrogate.models.hamiltonian import HamiltonianSettings, hamiltonian
from surrogate.models.heads import Head, head_of
from surrogate.models.mlp import MlpSettings, mlp
from surrogate.models.pod import PodSettings, pod
from surrogate.models.registry import (
    ModelSettings,
    Shapes,
    build,
    families,
    prepare,
    register,
    settings_union,
)
from surrogate.models.resnet import ResNetSettings, resnet
from surrogate.models.separable import Separable, separate
from surrogate.models.signature import Signature
from surrogate.models.spectral import SpectralConvolution
from surrogate.models.surrogate import Surrogate
from surrogate.models.unet import UNetSettings, unet

__all__ = [
    "AntisymmetricSettings",
    "AutoencoderSettings",
    "ConvNetSettings",
    "DeepONetSettings",
    "FieldHead",
    "FnoSettings",
    "HamiltonianSettings",
    "Head",
    "MlpSettings",
    "ModelSettings",
    "PodSettings",
    "ResNetSettings",
    "Separable",
    "Shapes",
    "Signature",
    "SpectralConvolution",
    "Surrogate",
    "UNetSettings",
    "antisymmetric",
    "autoencoder",
    "build",
    "convnet",
    "deeponet",
    "dense_head",
    "ensemble",
    "families",
    "fno",
    "hamiltonian",
    "head_of",
    "mlp",
    "pod",
    "prepare",
    "register",
    "resnet",
    "separate",
    "settings_union",
    "unet",
]
