r"""Heads: last layers that are linear in their weights, around the user's own layer.

A head turns features z into a design A (n, K) with one row per sample and output position, the last column ones when
the layer has a bias, so that `head(z)` is A W up to the order of axes. slimTrain needs only the sums A'A, A'C and
||C||^2. They are gathered by phases, sets of output positions that use the same kernel taps: a convolution has one; a
transposed convolution with stride s has s^d, which use disjoint taps, so that A'A falls into blocks that only the bias
connects; a dense layer is a convolution over no axes at all.
"""

from surrogate.models.heads.convolution import ConvHead, TransposedConvHead
from surrogate.models.heads.dense import DenseHead
from surrogate.models.heads.factory import SUPPORTED, head_of, is_supported
from surrogate.models.heads.head import Head, refuse_shape

__all__ = [
    "SUPPORTED",
    "ConvHead",
    "DenseHead",
    "Head",
    "TransposedConvHead",
    "head_of",
    "is_supported",
    "refuse_shape",
]
