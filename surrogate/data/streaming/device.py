"""Copy batches to their device before they are needed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch

from surrogate.batch import Batch

__all__ = ["Numbered", "in_thread", "on_device", "one_ahead"]

A = TypeVar("A")
B = TypeVar("B")
WORTHWHILE = 1e-3  # seconds of use from which on a thread is faster
Numbered = tuple[int, Batch]  # batches done once this one is, and the batch


def on_device(batches: Iterable[Numbered], device: torch.device) -> Iterable[Numbered]:
    """Yield batches on a device; to a GPU each is copied from pinned memory while the previous one is used.

    Arguments:
        batches: Batches on the host, numbered.
        device: The device.
    """
    if device.type == "cpu":
        return batches
    if device.type != "cuda":
        return ((done, batch.to(device)) for done, batch in batches)
    side = torch.cuda.Stream(device)

    def start(item: Numbered) -> tuple[Numbered, torch.cuda.Event]:
        done, batch = item
        with torch.cuda.stream(side):
            inputs = batch.inputs.pin_memory().to(device, non_blocking=True)
            same = batch.targets is batch.inputs
            targets = inputs if same else batch.targets.pin_memory().to(device, non_blocking=True)
            event = torch.cuda.Event()
            event.record(side)
        return (done, replace(batch, inputs=inputs, targets=targets)), event

    def finish(started: tuple[Numbered, torch.cuda.Event]) -> Numbered:
        (done, batch), event = started
        current = torch.cuda.current_stream(device)
        current.wait_event(event)
        for tensor in (batch.inputs, batch.targets):
            tensor.record_stream(current)  # its memory was taken on the side stream
        return done, batch

    return one_ahead(batches, start, finish)


def one_ahead(items: Iterable[A], start: Callable[[A], B], finish: Callable[[B], A]) -> Iterator[A]:
    """Yield `finish(start(item))` of each item; the next item is started before one is yielded."""
    started: list[B] = []
    for item in items:
        started.append(start(item))
        if len(started) == 2:
            yield finish(started.pop(0))
    for last in started:
        yield finish(last)


def in_thread(items: Generator[A]) -> Iterator[A]:
    """Yield the items of a generator, each computed by a thread while the previous one is used, if that takes long."""
    with contextlib.closing(items), ThreadPoolExecutor(1, "stream") as pool:
        item = next(items, None)
        slow = True
        while item is not None:
            coming = pool.submit(next, items, None) if slow else None
            start = time.perf_counter()
            yield item
            slow = time.perf_counter() - start > WORTHWHILE
            item = coming.result() if coming else next(items, None)
