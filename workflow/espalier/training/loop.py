"""The only training loop: batches, gradient accumulation, clipping, schedules, history, checkpoints, resuming."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor, nn
from tqdm import tqdm

from espalier.config.project import Progress
from espalier.config.training import Training
from espalier.data.batches import Batch, TaskRows, epoch_order
from espalier.evaluation.predict import Scores, selection_set
from espalier.methods.base import Method
from espalier.models.forward import forward
from espalier.pruning.masks import Masks
from espalier.runtime import distributed
from espalier.runtime.device import random_state, set_random_state
from espalier.runtime.errors import Interrupted, UserError
from espalier.training.history import History
from espalier.training.optimizer import adamw
from espalier.training.saves import Saves
from espalier.training.schedule import learning_rate_factor, steps_of_epoch
from espalier.training.sharing import Share
from espalier.training.teachers import AnyTeacher

SAVE_EVERY = 10
"""Rows of history between two saved states."""


@dataclass
class Loop:
    """One training run of a student under a method.

    The result is a function of the arguments alone: batches depend on (rows, seed, epoch), every other draw comes from a
    generator whose state is saved. A run that was killed and resumed ends, on the CPU, with bit-identical weights. Under
    several processes each batch is the same batch, divided (runtime/distributed.py).
    """

    student: nn.Module
    method: Method
    rows: TaskRows
    settings: Training
    learning_rate: float
    progress: Progress
    accelerator: Accelerator
    evaluate: Callable[[nn.Module], Scores]
    metric: str
    saves: Saves
    history: History
    teacher: AnyTeacher | None = None
    masks: Masks | None = None
    """Masks that the student comes with."""
    stop: Callable[[], bool] = lambda: False
    """Whether to save and stop after this step."""
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    """Score and step of the best evaluation so far, where the best checkpoint is asked for."""
    last_finite: dict[str, float] = field(default_factory=dict)
    """Loss terms of the last step that was looked at."""

    def __post_init__(self) -> None:
        size = self.settings.micro_batch_size
        self.micro = size if isinstance(size, int) else self.settings.batch_size
        self.steps_per_epoch = steps_of_epoch(len(self.rows), self.settings.batch_size)

    def run(self) -> None:
        """Train to the last step; the student then holds the weights to keep."""
        self.student.to(self.accelerator.device)  # before masks and sums take their places beside the weights
        self.method.teacher = self.teacher.model if self.teacher else None
        self.method.begin(self.student, self.masks)
        self.model = self.accelerator.prepare_model(self.student, evaluation_mode=True)  # precision; gradients are ours
        self.optimizer = self.accelerator.prepare_optimizer(self._make_optimizer())
        self.method.optimizer = self.optimizer
        if not distributed.is_main():
            torch.manual_seed(distributed.seed_of(self.method.stage.seed))
        self._resume()
        stage, per_epoch, quiet = self.method.stage, self.steps_per_epoch, not distributed.is_main()
        steps = stage.steps
        with tqdm(total=steps, initial=self.step, unit="step", mininterval=5.0, dynamic_ncols=True, disable=quiet) as bar:
            self._since_log()
            while self.step < steps:
                epoch, first = divmod(self.step, per_epoch)
                order = epoch_order(self.rows.lengths, self.settings.batch_size, stage.seed, stage.first_epoch + epoch)
                for picked in order[first : first + steps - self.step]:
                    self._one_step(picked)
                    bar.update()
                    self._after(bar)
        if not steps:  # a model that is kept as it is has a score all the same
            self._evaluate()
        if self.best and distributed.is_main():
            self._take_up(self.saves.read_best())

    def _make_optimizer(self) -> torch.optim.Optimizer:
        rates = {"learning_rate": self.learning_rate, "weight_decay": self.settings.weight_decay}
        return adamw(self.student, self.method.parameter_groups(), **rates)

    def _one_step(self, picked: np.ndarray) -> None:
        """One optimiser step on one batch, in micro-batches whose gradients add up to the batch's."""
        factor = learning_rate_factor(self.step, self.method.stage.bounds, self.settings.warmup, self.settings.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * (1.0 if group.get("constant") else factor)
        self._before_step()
        self._to_training()
        totals = self._gradients(picked)
        self.method.after_backward(self.step)
        norm = torch.nn.utils.clip_grad_norm_(self._trained(clipped_only=True), self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._pending.append((self.step, totals, norm, self.method.after_step(self.step - 1)))
        self._rows_seen += len(picked)

    def _before_step(self) -> None:
        """What the method does first; where it removes, between two evaluations if settings ask for them."""
        watched = self.step in self.method.stage.removals and self.settings.evaluate_removals
        if watched and not self._is_due(self.step):  # else the step before has ended with this evaluation
            if self._pending:
                self._log()
            self._evaluate()
        self.method.before_step(self.step)
        if watched:
            self._evaluate()
            self._since_log()

    def _gradients(self, picked: np.ndarray) -> dict[str, Tensor]:
        """Gradients and loss terms of a batch; where memory runs out and settings allow it, again in smaller pieces."""
        totals, device = None, self.accelerator.device
        while totals is None:
            random = random_state(device, self.method.generator)
            try:
                totals = self._accumulate(picked)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                self._halve(error)
            if totals is None:  # the exception is gone, and what it held
                self.optimizer.zero_grad()
                set_random_state(random, device, self.method.generator)
                clear_device_cache(garbage_collection=True)
        distributed.average_gradients([*self._trained(), *self.method.gradients_to_read()])
        return totals

    def _accumulate(self, picked: np.ndarray) -> dict[str, Tensor]:
        totals: dict[str, Tensor] = {}
        epoch = self.method.stage.first_epoch + self.step // self.steps_per_epoch
        for start in range(0, len(picked), self.micro):
            batch = self.rows.batch(picked[start : start + self.micro], self.accelerator.device, epoch)
            share = len(batch) / len(picked)
            terms = self._terms(batch)
            loss = sum(self.method.loss_weights[name] * term for name, term in terms.items())
            self.accelerator.backward(loss * share)
            for name, term in (terms | {"": loss}).items():
                totals[name] = totals.get(name, 0.0) + share * term.detach()
        return totals

    def _halve(self, error: RuntimeError) -> None:
        """Make micro-batches half as large.

        Raises:
            UserError: the settings, several processes or a single row do not allow it.
        """
        if self.settings.micro_batch_size != "auto" or distributed.count() > 1 or self.micro == 1:
            raise UserError(
                f"out of memory at step {self.step} with {self.micro} rows in one forward pass; set micro_batch_size below "
                f"that, or to auto (one process only): the gradient stays as it is; or lower max_length. {error}"
            ) from None
        self.micro = math.ceil(self.micro / 2)
        tqdm.write(f"step {self.step}: out of memory; from here on {self.micro} rows in one forward pass", file=sys.stderr)

    def _to_training(self) -> None:
        """Dropout is on, but not in an encoder that is frozen: its features stay the same."""
        self.model.train()
        if not any(parameter.requires_grad for parameter in self.student.base_model.parameters()):
            self.student.base_model.eval()

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        method, share = self.method, Share(batch)
        with self.accelerator.autocast(), method.around_forward():
            outputs = forward(self.model, share.own, method.representation, method.needs_hidden_states, method.relations)
        teacher = self.teacher(batch) if self.teacher else None
        return self.method.loss_terms(batch, share.join(outputs), teacher, self.step)

    def _trained(self, clipped_only: bool = False) -> list[nn.Parameter]:
        groups = [group for group in self.optimizer.param_groups if group.get("clip", True) or not clipped_only]
        return [parameter for group in groups for parameter in group["params"]]

    def _is_due(self, step: int) -> bool:
        """Whether an evaluation follows so many steps; the same in a resumed run and in every process."""
        every = round(self.settings.evaluate_every * self.steps_per_epoch)
        return step == self.method.stage.steps or (step > 0 and every > 0 and step % every == 0)

    def _after(self, bar: tqdm) -> None:
        """What comes between two steps: history, evaluation, saving."""
        last, evaluates = self.step == self.method.stage.steps, self._is_due(self.step)
        saves = self.step % (SAVE_EVERY * self.progress.log_every) == 0 and not last
        if evaluates or saves or self.step % self.progress.log_every == 0:
            bar.set_postfix(self._log(), refresh=False)
        if evaluates:
            self._evaluate()
        stops = not last and distributed.any_of(self.stop())
        if stops and self._pending:
            self._log()
        if saves or stops:
            self.saves.write(self._state())
        if stops:
            raise Interrupted(f"stopped at step {self.step} of {self.method.stage.steps}; it is saved, the next run goes on")
        if not self._pending:
            self._since_log()

    def _log(self) -> dict[str, str]:
        """Write the mean of the steps since the last row of history; until here they stay on the device."""
        elapsed = time.perf_counter() - self._began
        self.seconds += elapsed
        rate = self._rows_seen / elapsed
        logged: dict[str, list[float]] = {}
        for step, totals, norm, extra in self._pending:
            values = {name: float(value) for name, value in totals.items()} | {"gradient_norm": float(norm)}
            self._check_finite(step, values)
            for name, value in (values | extra).items():
                logged.setdefault(name, []).append(float(value))
        means = {name: sum(each) / len(each) for name, each in logged.items()}
        loss = means.pop("", 0.0)
        terms = {f"loss/{name}" if name in self.method.loss_weights else name: value for name, value in means.items()}
        row = {"loss": loss, **terms, "learning_rate": self.optimizer.param_groups[0]["lr"]}
        row |= {"sparsity": self.method.sparsity, "samples_per_second": rate, "seconds": self.seconds}
        self.history.add(self.step, self.step / self.steps_per_epoch, row)
        self._pending.clear()
        return {"loss": f"{loss:.4f}", "rows/s": f"{rate:.0f}"}

    def _since_log(self) -> None:
        self._pending: list[tuple[int, dict[str, Tensor], Tensor, Mapping[str, float | Tensor]]] = []
        self._rows_seen, self._began = 0, time.perf_counter()

    def _check_finite(self, step: int, values: dict[str, float]) -> None:
        """Stop a diverged run.

        Raises:
            UserError: a loss or the gradient is infinite or not a number; with the step and the last finite values.
        """
        for name, value in values.items():
            if not math.isfinite(value):
                what = "the gradient norm" if name == "gradient_norm" else f"loss term '{name or 'total'}'"
                known = ", ".join(f"{term or 'total'} {number:.4g}" for term, number in self.last_finite.items())
                raise UserError(
                    f"training diverged at step {step} of {self.method.stage.steps}: {what} is {value}; "
                    f"last finite values: {known or 'none'}; lower learning_rate ({self.learning_rate:g}) or the term's weight"
                )
        self.last_finite = values

    def _evaluate(self) -> None:
        scores = self.evaluate(self.model)
        name = selection_set(scores)
        row = {f"{part}/{key}": value for part, values in scores.items() for key, value in values.items() if key != "rows"}
        self.history.add(self.step, self.step / self.steps_per_epoch, row)
        if distributed.is_main():
            tqdm.write(f"step {self.step}: {name} {self.metric} {scores[name][self.metric]:.4f}", file=sys.stderr)
        at_target = self.method.at_target(self.step)
        if self.settings.checkpoint == "best" and at_target and scores[name][self.metric] > self.best.get("score", -math.inf):
            self.best = {"score": scores[name][self.metric], "step": self.step, "set": name}
            self.saves.write_best({"student": self.student.state_dict(), "method": self.method.state_dict()})

    def _take_up(self, state: dict[str, Any]) -> None:
        """Masks or gates, then the weights that belong to them."""
        self.method.load_state_dict(state["method"])
        self.student.load_state_dict(state["student"])

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "history": self.history.length,
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state_dict(),
            "micro": self.micro,
            "random": distributed.everyones([random_state(self.accelerator.device, self.method.generator)]),
        }

    def _resume(self) -> None:
        if (state := self.saves.read()) is None:
            self.history.truncate(0)
            return
        self.step, self.seconds, self.best, self.micro = (state[key] for key in ("step", "seconds", "best", "micro"))
        self.history.truncate(state["history"])
        self._take_up(state)
        self.optimizer.load_state_dict(state["optimizer"])
        if distributed.index() < len(state["random"]):  # else there are more processes than before
            set_random_state(state["random"][distributed.index()], self.accelerator.device, self.method.generator)
