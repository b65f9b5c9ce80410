"""Where the time of a training step goes: every part's own seconds, without those of parts that run inside it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.speed.machine import settle
from benchmarks.speed.runs import run
from espalier.training.loop import Loop

PARTS = ("data", "teacher", "forward", "backward", "optimiser", "method", "loop")
"""`method` is what the method's own calls take besides models; `loop` is what is left of a step."""
CALLS = ("before_step", "look_ahead", "loss_terms", "after_backward", "after_clipping", "after_step", "standing")
OUTSIDE = ("data", "method", "loop")
"""Parts that are neither models nor optimiser."""


class Stopwatch:
    """A stack of running parts; only the innermost one's clock runs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.running: list[str] = []
        self.since = self.whole = 0.0
        self.stopped = False

    def clear(self) -> None:
        """Count from here on."""
        self.seconds.clear()
        self.whole = -time.perf_counter()

    def stop(self) -> None:
        """Count no further."""
        self.whole += time.perf_counter()
        self.stopped = True

    def _credit(self) -> None:
        settle(self.device)
        now = time.perf_counter()
        if self.running and not self.stopped:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def begin(self, part: str) -> None:
        """A part begins; the one around it waits."""
        self._credit()
        self.running.append(part)

    def end(self) -> None:
        """The innermost part ends."""
        self._credit()
        self.running.pop()

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, with its time counted."""

        def around(*arguments: Any, **keywords: Any) -> Any:
            # What runs beside the training thread takes none of its time.
            if threading.current_thread() is not threading.main_thread():
                return call(*arguments, **keywords)
            self.begin(part)
            try:
                return call(*arguments, **keywords)
            finally:
                self.end()

        return around


class _Timed:
    """A teacher with its calls timed; all else is asked of the teacher itself."""

    def __init__(self, watch: Stopwatch, teacher: Any) -> None:
        self._call = watch.timed("teacher", teacher)
        self._teacher = teacher

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._call(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._teacher, name)


def split_of(loop: Loop, spare: int = 0) -> dict[str, Any]:
    """Seconds of each part of a step, as means over all steps but the first, and fractions of the whole.

    Args:
        loop: is run to its end.
        spare: steps at the end that do not count.
    """
    watch, method = Stopwatch(loop.accelerator.device), loop.method
    last = method.stage.steps - 1 - spare
    for name in CALLS:
        setattr(method, name, watch.timed("method", getattr(method, name)))
    begin, after_step = method.begin, method.after_step

    def begun(*arguments: Any) -> None:
        begin(*arguments)
        _watch(watch, loop)

    def after(step: int) -> Any:
        logged = after_step(step)
        # The first step warms up.
        if step == 0:
            watch.clear()
        if step == last:
            watch.stop()
        return logged

    method.begin, method.after_step = begun, after
    norm = nn.utils.clip_grad_norm_
    nn.utils.clip_grad_norm_ = watch.timed("optimiser", norm)
    try:
        run(loop)
    finally:
        nn.utils.clip_grad_norm_ = norm
    return _shares(watch, last)


def _watch(watch: Stopwatch, loop: Loop) -> None:
    """Time data, teacher, the student's passes and, once it is there, the optimiser."""
    object.__setattr__(loop.rows, "batch", watch.timed("data", loop.rows.batch))
    if loop.teacher is not None:
        loop.teacher = _Timed(watch, loop.teacher)
    loop.student.register_forward_pre_hook(lambda *_: watch.begin("forward"), prepend=True)
    loop.student.register_forward_hook(lambda *_: watch.end())
    loop.accelerator.backward = watch.timed("backward", loop.accelerator.backward)

    prepare = loop.accelerator.prepare_optimizer

    def prepared(optimizer: torch.optim.Optimizer, *arguments: Any) -> Any:
        wrapped = prepare(optimizer, *arguments)
        for name in ("step", "zero_grad"):
            setattr(wrapped, name, watch.timed("optimiser", getattr(wrapped, name)))
        return wrapped

    loop.accelerator.prepare_optimizer = prepared


def _shares(watch: Stopwatch, steps: int) -> dict[str, Any]:
    """The parts of a step, and what of it is outside models and optimiser."""
    whole = watch.whole / steps
    seconds = {part: watch.seconds[part] / steps for part in PARTS}
    seconds["loop"] = max(0.0, whole - sum(seconds.values()))
    return {
        "step_seconds": whole,
        "seconds": seconds,
        "shares": {part: value / whole for part, value in seconds.items()},
        "outside_models_and_optimiser": sum(seconds[part] for part in OUTSIDE) / whole,
    }
