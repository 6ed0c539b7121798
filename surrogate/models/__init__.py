"""Separable networks: nonlinear features, then a head that is linear in its weights."""

from surrogate.models.ensemble import ensemble
from surrogate.models.families.antisymmetric import AntisymmetricSettings, antisymmetric
from surrogate.models.families.autoencoder import AutoencoderSettings, autoencoder
from surrogate.models.families.baselines import MeanSettings, NearestSettings, PersistenceSettings
from surrogate.models.families.convnet import ConvNetSettings, convnet
from surrogate.models.families.deeponet import DeepONetSettings, deeponet
from surrogate.models.families.fno import FnoSettings, fno
from surrogate.models.families.gino import GinoSettings, gino
from surrogate.models.families.hamiltonian import HamiltonianSettings, hamiltonian
from surrogate.models.families.kernel_ridge import KernelRidgeSettings
from surrogate.models.families.linear import LinearSettings
from surrogate.models.families.mlp import MlpSettings, mlp
from surrogate.models.families.pod import PodSettings, pod
from surrogate.models.families.pod_gp import PodGpSettings
from surrogate.models.families.pod_rbf import PodRbfSettings
from surrogate.models.families.resnet import ResNetSettings, resnet
from surrogate.models.families.transolver import TransolverSettings, transolver
from surrogate.models.families.unet import UNetSettings, unet
from surrogate.models.heads import Head, head_of
from surrogate.models.layers.field_head import FieldHead, dense_head
from surrogate.models.layers.linear_part import LinearPart, fit_linear_part, with_linear_part
from surrogate.models.layers.spectral import SpectralConvolution
from surrogate.models.registry import (
    ModelSettings,
    Shapes,
    build,
    families,
    prepare,
    register,
    settings_union,
)
from surrogate.models.separable import Separable, separate
from surrogate.models.signature import Signature
from surrogate.models.surrogate import Surrogate

__all__ = [
    "AntisymmetricSettings",
    "AutoencoderSettings",
    "ConvNetSettings",
    "DeepONetSettings",
    "FieldHead",
    "FnoSettings",
    "GinoSettings",
    "HamiltonianSettings",
    "Head",
    "KernelRidgeSettings",
    "LinearPart",
    "LinearSettings",
    "MeanSettings",
    "MlpSettings",
    "ModelSettings",
    "NearestSettings",
    "PersistenceSettings",
    "PodGpSettings",
    "PodRbfSettings",
    "PodSettings",
    "ResNetSettings",
    "Separable",
    "Shapes",
    "Signature",
    "SpectralConvolution",
    "Surrogate",
    "TransolverSettings",
    "UNetSettings",
    "antisymmetric",
    "autoencoder",
    "build",
    "convnet",
    "deeponet",
    "dense_head",
    "ensemble",
    "families",
    "fit_linear_part",
    "fno",
    "gino",
    "hamiltonian",
    "head_of",
    "mlp",
    "pod",
    "prepare",
    "register",
    "resnet",
    "separate",
    "settings_union",
    "transolver",
    "unet",
    "with_linear_part",
]
