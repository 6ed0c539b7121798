"""Share a budget of time between networks that are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LEAST", "MOST", "Pilot", "epochs_within"]

LEAST = 5  # epochs, fewer are no training
MOST = 1000


@dataclass(frozen=True)
class Pilot:
    """What a network does in its first epochs.

    Arguments:
        error: Its error after them; infinite where it failed.
        epoch: Seconds of an epoch.
        overhead: Seconds of a fold besides its epochs, for reading and evaluation.
    """

    error: float
    epoch: float
    overhead: float


def epochs_within(pilots: Mapping[str, Pilot], seconds: float, folds: int) -> dict[str, int]:
    """Return how many epochs each network may train in every fold, so that all of them take equal shares of the time.

    A share that some do not need, because they stop at 1000 epochs, goes to the others. A network that could not train
    for five epochs if it were alone is left out. Then, where the time is too short for five epochs of all, the one with
    the largest error is left out, until the others have enough.

    Arguments:
        pilots: Networks by name.
        seconds: The time for all folds of all networks.
        folds: Number of folds, at least 1.
    """
    kept = {name: pilot for name, pilot in pilots.items() if folds * (pilot.overhead + LEAST * pilot.epoch) <= seconds}
    while True:
        left, epochs = seconds / folds, dict[str, int]()
        quickest_first = sorted(kept, key=lambda name: kept[name].overhead + MOST * kept[name].epoch)
        for number, name in enumerate(quickest_first):
            pilot, share = kept[name], left / (len(kept) - number)
            epochs[name] = min(MOST, math.floor((share - pilot.overhead) / pilot.epoch))
            left -= min(share, pilot.overhead + MOST * pilot.epoch)
        if all(count >= LEAST for count in epochs.values()):
            return {name: epochs[name] for name in pilots if name in epochs}
        del kept[max(kept, key=lambda name: kept[name].error)]
