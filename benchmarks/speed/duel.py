"""Both sides in turn: after each of our steps, inside our own training loop, the reference takes one of its steps.

So a machine whose speed drifts changes both. What is measured is `Loop.run` from the end of one step to the end of the next,
data, logging and all; nothing of the loop is rebuilt here.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.speed.machine import settle
from benchmarks.speed.references import Reference
from benchmarks.speed.runs import run
from espalier.training.loop import Loop


@dataclass
class Duel:
    """Times of one of our runs, and of a reference beside it."""

    loop: Loop
    reference: Reference | None = None
    every: int = 1
    """Our steps to one of the reference."""
    spare: int = 0
    """Steps at the end that do not count, because they are others."""
    ours: list[tuple[int, float]] = field(default_factory=list)
    """Padded length of the batch, and seconds of the step."""
    theirs: list[float] = field(default_factory=list)

    def fight(self) -> Duel:
        """Run our stage to its end. The first step of each side warms up and does not count."""
        method = self.loop.method
        after_step, make_batch = method.after_step, self.loop.rows.batch
        lengths: list[int] = []
        measured = range(1, method.stage.steps - self.spare)

        def batch(*arguments: Any, **keywords: Any) -> Any:
            made = make_batch(*arguments, **keywords)
            lengths.append(made.input_ids.shape[1])
            return made

        def after(step: int) -> Mapping[str, Any]:
            logged = after_step(step)
            settle(self.loop.accelerator.device)
            now = time.perf_counter()
            if step in measured:
                self.ours.append((lengths[step], now - self.began))
            if self.reference is not None and step % self.every == 0:
                self._their_turn(counts=step in measured)
            self.began = time.perf_counter()
            return logged

        # Rows are frozen data classes, so that an attribute has to be set past them.
        object.__setattr__(self.loop.rows, "batch", batch)
        method.after_step = after
        try:
            run(self.loop)
        finally:
            object.__delattr__(self.loop.rows, "batch")
            method.after_step = after_step
        return self

    def _their_turn(self, counts: bool) -> None:
        began = time.perf_counter()
        self.reference.step()
        settle(self.reference.device)
        if counts:
            self.theirs.append(time.perf_counter() - began)

    @cached_property
    def our_seconds(self) -> float:
        """Of a step, as an average over the batches of an epoch: first over steps of one length, then over lengths."""
        times: dict[int, list[float]] = defaultdict(list)
        for length, seconds in self.ours:
            times[length].append(seconds)
        counts = [len(each) for each in times.values()]
        return float(np.average([np.median(each) for each in times.values()], weights=counts))

    @cached_property
    def their_seconds(self) -> float:
        """Of a step of the reference."""
        return float(np.mean(self.theirs))

    def numbers(self) -> dict[str, float]:
        """Seconds a step and samples a second of both sides, and their ratio."""
        batch = self.loop.settings.batch_size
        numbers = {"step_seconds": self.our_seconds, "samples_per_second": batch / self.our_seconds}
        if self.theirs:
            numbers |= {
                "reference_step_seconds": self.their_seconds,
                "reference_samples_per_second": batch / self.their_seconds,
                "ratio": self.their_seconds / self.our_seconds,
            }
        return numbers
