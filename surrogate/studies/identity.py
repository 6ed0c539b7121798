"""The name of a case: a hash of its configuration and data, so that no case is computed twice."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["case_name"]

DIGITS = 12
WITHOUT_EFFECT = (
    ("training", "device"),
    ("data", "path"),  # the data have a fingerprint of their own
    ("simulate",),
    ("evaluation",),  # a finished case can be scored again
)


def case_name(method: str, experiment: Mapping[str, Any], fingerprint: str) -> str:
    """Return `<method>-<hash>` for a resolved experiment on data with this fingerprint.

    The path of the data, the device and the settings of roll-outs do not change the hash; everything else does.
    """
    tree = copy.deepcopy(dict(experiment))
    for *path, last in WITHOUT_EFFECT:
        below: Any = tree
        for key in path:
            below = below[key]
        below.pop(last, None)
    if tree["training"].get("start_from", "") is None:  # as before there were such options
        for option in ("start_from", "start_what"):
            tree["training"].pop(option, None)
    text = json.dumps([tree, fingerprint], sort_keys=True, allow_nan=False)
    return f"{method}-{hashlib.sha256(text.encode()).hexdigest()[:DIGITS]}"
