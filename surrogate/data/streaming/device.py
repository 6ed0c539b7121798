"""Batches on their device before they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from surrogate.batch import Batch

__all__ = ["Numbered", "in_thread", "on_device", "one_ahead"]

A = TypeVar("A")
B = TypeVar("B")
Numbered = tuple[int, Batch]  # batches done once this one is, and the batch


def on_device(batches: Iterable[Numbered], device: torch.device) -> Iterable[Numbered]:
    """Batches on a device: to a GPU each one is copied from pinned memory while the one before is used.

    Arguments:
        batches: Batches on the host, numbered.
        device: Where they are needed.
    """
    if device.type == "cpu":
        return batches
    if device.type != "cuda":
        return ((done, batch.to(device)) for done, batch in batches)
    side = torch.cuda.Stream(device)

    def start(item: Numbered) -> tuple[Numbered, torch.cuda.Event]:
        done, batch = item
        with torch.cuda.stream(side):
            moved = _moved(batch, lambda tensor: tensor.pin_memory().to(device, non_blocking=True))
            event = torch.cuda.Event()
            event.record(side)
        return (done, moved), event

    def finish(started: tuple[Numbered, torch.cuda.Event]) -> Numbered:
        (done, batch), event = started
        current = torch.cuda.current_stream(device)
        current.wait_event(event)
        for tensor in (batch.inputs, batch.targets):
            tensor.record_stream(current)  # its memory was taken on the side stream
        return done, batch

    return one_ahead(batches, start, finish)


def one_ahead(items: Iterable[A], start: Callable[[A], B], finish: Callable[[B], A]) -> Iterator[A]:
    """`finish(start(item))` of each item; the next one is started before an item is handed out."""
    started: list[B] = []
    for item in items:
        started.append(start(item))
        if len(started) == 2:
            yield finish(started.pop(0))
    for last in started:
        yield finish(last)


def in_thread(items: Generator[A]) -> Iterator[A]:
    """The items of a generator, each made by a thread while the one before is used."""
    with contextlib.closing(items), ThreadPoolExecutor(1, "stream") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _moved(batch: Batch, move: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with inputs and targets moved; once where they are one tensor."""
    inputs = move(batch.inputs)
    return replace(batch, inputs=inputs, targets=inputs if batch.targets is batch.inputs else move(batch.targets))
