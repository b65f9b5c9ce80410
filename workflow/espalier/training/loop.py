"""The only training loop: batches, gradient accumulation, clipping, schedules, history, checkpoints, resuming."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor, nn
from tqdm import tqdm

from espalier.config.project import Progress
from espalier.config.training import Training
from espalier.data.batches import Batch, TaskRows
from espalier.evaluation.predict import Scores, selection_set
from espalier.methods.base import Method
from espalier.models.dropout import with_cheap_dropout
from espalier.models.forward import forward
from espalier.models.int8 import rounded_linears
from espalier.models.outputs import Outputs
from espalier.pruning.masks import Masks
from espalier.runtime import distributed
from espalier.runtime.device import random_state, set_random_state
from espalier.runtime.errors import Interrupted, UserError
from espalier.training.calibration import calibrate, models_of
from espalier.training.divergence import check_finite_step
from espalier.training.history import History
from espalier.training.optimizer import adamw
from espalier.training.projection import projection_for, projection_groups
from espalier.training.saves import Saves
from espalier.training.schedule import learning_rate_factor, steps_of_epoch
from espalier.training.sharing import Share
from espalier.training.teachers import AnyTeacher

SAVE_EVERY = 10
"""Rows of history between two saved states."""
TOTAL = "total"
"""Name under which the weighted sum of a step's loss terms is kept beside the terms."""


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
    int8_last: bool = False
    """Whether the student's linear maps round as in int8 in the last epoch."""
    stop: Callable[[], bool] = lambda: False
    """Whether to save and stop after this step."""
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    """Score and step of the best evaluation so far, where the best checkpoint is asked for."""
    calibration: dict[str, Any] = field(default_factory=dict)
    """Rows and seconds of the method's look at training rows, where it took one."""
    last_finite: dict[str, float] = field(default_factory=dict)
    """Loss terms of the last step that was looked at."""
    projection: nn.Module = field(default_factory=nn.Identity, init=False)
    """What brings vectors of a narrower student to the teacher's width, where vectors are compared."""

    def __post_init__(self) -> None:
        size = self.settings.micro_batch_size
        self.micro = size if isinstance(size, int) else self.settings.batch_size
        self.steps_per_epoch = steps_of_epoch(self.rows.epoch_rows, self.settings.batch_size)
        self._ready: tuple[np.ndarray | None, Batch | None] = None, None

        # Some terms are means over padding, so a method may ask for rows of one length.
        self.rows = self.rows.widened(self.method.pad_to or 0)

    def run(self) -> None:
        """Train to the last step; the student then holds the weights to keep."""
        self._begin()
        if not self._resume():
            self._calibrate()
        self._train()

        # A student that is not trained at all still gets a score.
        if not self.method.stage.steps:
            self._evaluate()

        if self.best and distributed.is_main():
            self._take_up(self.saves.read_best())

    def _begin(self) -> None:
        """Bring student, method and optimiser together."""
        # The student goes to its device first: masks and running sums are made beside its weights.
        self.student.to(self.accelerator.device)
        with_cheap_dropout(self.student)
        self.method.teacher = self.teacher.model if self.teacher else None
        self.method.begin(self.student, self.masks)
        self.projection = projection_for(self.student, self.method)

        # evaluation_mode keeps accelerate from wrapping the model: it sets the precision, we average the gradients.
        self.model = self.accelerator.prepare_model(self.student, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare_optimizer(self._make_optimizer())
        self.method.optimizer = self.optimizer

        # Dropout differs between processes, as it does between the rows of one batch.
        if not distributed.is_main():
            torch.manual_seed(distributed.seed_of(self.method.stage.seed))

    def _calibrate(self) -> None:
        """Let the method look at training rows, where it asks for any, and save what it makes of them."""
        if not (self.method.calibration_rows and self.method.stage.removes):
            return

        # One process decides for all: sums that differ in their last bit could decide otherwise.
        if distributed.is_main():
            self.calibration = calibrate(self.method, self.student, self.rows, self.micro, self.stop)
        if distributed.count() > 1:
            self._take_up(distributed.mains(models_of(self.student, self.method)))
        self.saves.write(self._state())

    def _train(self) -> None:
        """All steps from the present one to the last one, epoch by epoch."""
        stage = self.method.stage
        steps = stage.steps
        quiet = not (steps and distributed.is_main())

        with tqdm(total=steps, initial=self.step, unit="step", mininterval=5.0, dynamic_ncols=True, disable=quiet) as bar:
            self._since_log()
            while self.step < steps:
                # The order depends on seed and epoch alone, so a resumed run goes on with the batch that was next.
                epoch, first = divmod(self.step, self.steps_per_epoch)
                order = self.rows.batches_of_epoch(self.settings.batch_size, stage.seed, stage.first_epoch + epoch)

                ahead = order[first : first + steps - self.step]
                for picked, following in zip_longest(ahead, ahead[1:]):
                    self._one_step(picked)

                    # A GPU still computes the step while its next batch is made; what follows waits for it.
                    if following is not None:
                        self._ready = following, self._batch(following, self.step)
                    bar.update()
                    self._after(bar)

    def _batch(self, picked: np.ndarray, step: int) -> Batch:
        """The rows of a step, padded: a function of rows, seed and step that draws from no generator that is saved."""
        epoch = self.method.stage.first_epoch + step // self.steps_per_epoch
        return self.rows.batch(picked, self.accelerator.device, epoch)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        rates = {"learning_rate": self.learning_rate, "weight_decay": self.settings.weight_decay}
        return adamw(self.student, [*self.method.parameter_groups(), *projection_groups(self.projection)], **rates)

    def _one_step(self, picked: np.ndarray) -> None:
        """One optimiser step on one batch, in micro-batches whose gradients add up to the batch's."""
        # lr = peak × factor(step), but for groups that a method keeps at their peak, such as multipliers.
        stage, settings = self.method.stage, self.settings
        factor = learning_rate_factor(self.step, stage.bounds, settings.warmup, settings.schedule, stage.decay_ends)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * (1.0 if group.get("constant") else factor)

        self._before_step()
        self._to_training()
        totals = self._gradients(picked)
        self.method.after_backward(self.step)

        # Masked or changed gradients are clipped, not the raw ones. The norm leaves out what a method excludes.
        norm = torch.nn.utils.clip_grad_norm_(self._trained(clipped_only=True), self.settings.clip_norm)
        self.method.after_clipping(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()

        # Numbers stay on the device until a row of history is due: reading one of them would wait for the GPU.
        self.step += 1
        self._pending.append((self.step, totals, norm, self.method.after_step(self.step - 1)))
        self._rows_seen += len(picked)

    def _before_step(self) -> None:
        """What the method does first; where it removes, between two evaluations if settings ask for them."""
        watched = self.step in self.method.stage.removals and self.settings.evaluate_removals

        # Where an evaluation is due anyway, the step before has ended with it.
        if watched and not self._is_due(self.step):
            if self._pending:
                self._log()
            self._evaluate()

        self.method.before_step(self.step)

        if watched:
            self._evaluate()
            self._since_log()

    def _gradients(self, picked: np.ndarray) -> dict[str, Tensor]:
        """Gradients and loss terms of a batch; where memory runs out and settings allow it, again in smaller pieces."""
        totals = None
        device = self.accelerator.device

        while totals is None:
            # The attempt in smaller pieces draws the random numbers of the attempt that failed.
            random = random_state(device, self.method.generator)
            try:
                totals = self._accumulate(picked)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                self._halve(error)

            # Outside the except block: the exception holds the tensors that filled the memory.
            if totals is None:
                self.optimizer.zero_grad()
                for tensor in self.method.gradients_to_read():
                    tensor.grad = None
                set_random_state(random, device, self.method.generator)
                clear_device_cache(garbage_collection=True)

        distributed.average_gradients([*self._trained(), *self.method.gradients_to_read()])
        return totals

    def _accumulate(self, picked: np.ndarray) -> dict[str, Tensor]:
        """Gradients of one batch, added up over its micro-batches; its loss terms, as means over the whole batch."""
        totals: dict[str, Tensor] = {}
        picked_ahead, whole = self._ready
        if whole is None or picked_ahead is not picked:
            whole = self._batch(picked, self.step)

        # Micro-batches are padded like the whole batch, because some terms are means over padding, too.
        pieces = [whole.part(slice(start, start + self.micro)) for start in range(0, len(whole), self.micro)]
        if len(pieces) > 1:
            self._look_ahead(pieces)

        for piece in pieces:
            terms = self._terms(piece)

            # L = Σ_k w_k Σ_m (c_k,m / c_k) L_k,m: a micro-batch counts by its share of what the term is a mean over.
            shares = self._shares(piece, whole)
            loss = sum(self.method.loss_weights[name] * shares[name] * term for name, term in terms.items())
            self.accelerator.backward(loss)

            for name, term in terms.items():
                totals[name] = totals.get(name, 0.0) + shares[name] * term.detach()
            totals[TOTAL] = totals.get(TOTAL, 0.0) + loss.detach()
        return totals

    @torch.no_grad()
    def _look_ahead(self, pieces: list[Batch]) -> None:
        """Let the method see all micro-batches; afterwards they are run for their gradients with the same random numbers."""
        random = random_state(self.accelerator.device, self.method.generator)
        self.method.look_ahead((piece, *self._outputs(piece)) for piece in pieces)
        set_random_state(random, self.accelerator.device, self.method.generator)

    def _shares(self, piece: Batch, whole: Batch) -> dict[str, float]:
        """Term → fraction of the whole batch's rows, tokens or positions that a micro-batch has; the fractions add up to 1."""
        if len(piece) == len(whole):
            return dict.fromkeys(self.method.loss_weights, 1.0)
        counts = self.method.counts(whole)
        return {name: count / max(1, counts[name]) for name, count in self.method.counts(piece).items()}

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
        """Unweighted loss terms of a micro-batch."""
        return self.method.loss_terms(batch, *self._outputs(batch), self.step)

    def _outputs(self, batch: Batch) -> tuple[Outputs, Outputs | None]:
        """What the student says of a micro-batch, and the teacher where there is one."""
        method = self.method
        # Each process runs its own rows; the losses see the outputs of all of them.
        share = Share(batch)

        with self.accelerator.autocast(), method.around_forward(), self._rounding():
            outputs = forward(self.model, share.own, method.representation, method.needs_hidden_states, method.relations)
        return self.projection(share.join(outputs)), self.teacher(batch) if self.teacher else None

    def _rounding(self) -> AbstractContextManager[None]:
        """Lets linear maps round in the last epoch, where asked for. The step decides, so a resumed run does the same."""
        rounds = self.int8_last and self.step >= self.method.stage.steps - self.steps_per_epoch
        return rounded_linears(self.student) if rounds else nullcontext()

    def _trained(self, clipped_only: bool = False) -> list[nn.Parameter]:
        """All parameters that the optimiser changes, or those whose gradients count in the norm."""
        groups = [group for group in self.optimizer.param_groups if group.get("clip", True) or not clipped_only]
        return [parameter for group in groups for parameter in group["params"]]

    def _is_due(self, step: int) -> bool:
        """Whether an evaluation follows so many steps; the same in a resumed run and in every process."""
        every = round(self.settings.evaluate_every * self.steps_per_epoch)
        return step == self.method.stage.steps or (step > 0 and every > 0 and step % every == 0)

    def _after(self, bar: tqdm) -> None:
        """What comes between two steps: history, evaluation, saving."""
        last = self.step == self.method.stage.steps
        evaluates = self._is_due(self.step)
        saves = self.step % (SAVE_EVERY * self.progress.log_every) == 0 and not last
        if evaluates or saves or self.step % self.progress.log_every == 0:
            bar.set_postfix(self._log(), refresh=False)
        if evaluates:
            self._evaluate()

        # A signal may reach one process before the others; all of them stop at the same step.
        stops = not last and distributed.any_of(self.stop())
        if stops and self._pending:
            self._log()
        if saves or stops:
            self.saves.write(self._state())
        if stops:
            raise Interrupted(f"stopped at step {self.step} of {self.method.stage.steps}; it is saved, the next run goes on")

        # Evaluating and saving take no part in the rate that is logged.
        if not self._pending:
            self._since_log()

    def _log(self) -> dict[str, str]:
        """Write the mean of the steps since the last row of history; until here they stay on the device."""
        elapsed = time.perf_counter() - self._began
        self.seconds += elapsed
        rate = self._rows_seen / elapsed

        # The device is read here, once for all steps since the last row.
        logged: dict[str, list[float]] = {}
        for step, totals, norm, extra in self._pending:
            values = {name: float(value) for name, value in totals.items()} | {"gradient_norm": float(norm)}
            check_finite_step(values, f"step {step} of {self.method.stage.steps}", self.last_finite, self.learning_rate)
            self.last_finite = values
            for name, value in (values | extra).items():
                logged.setdefault(name, []).append(float(value))
        means = {name: sum(numbers) / len(numbers) for name, numbers in logged.items()}

        loss = means.pop(TOTAL, 0.0)
        terms = {f"loss/{name}" if name in self.method.loss_weights else name: value for name, value in means.items()}
        row = {"loss": loss, **terms, "learning_rate": self.optimizer.param_groups[0]["lr"]}
        row |= {"sparsity": self.method.sparsity, **self.method.standing()}
        row |= {"samples_per_second": rate, "seconds": self.seconds}

        self.history.add(self.step, self.step / self.steps_per_epoch, row)
        self._pending.clear()
        return {"loss": f"{loss:.4f}", "rows/s": f"{rate:.0f}"}

    def _since_log(self) -> None:
        """Begin the next row of history: nothing pending, clock and rows at zero."""
        self._pending: list[tuple[int, dict[str, Tensor], Tensor, Mapping[str, float | Tensor]]] = []
        self._rows_seen = 0
        self._began = time.perf_counter()

    def _evaluate(self) -> None:
        """Score the student, write the scores to the history, and keep the state where it is the best so far."""
        scores = self.evaluate(self.model)
        name = selection_set(scores)
        row = {f"{part}/{key}": value for part, values in scores.items() for key, value in values.items() if key != "rows"}
        self.history.add(self.step, self.step / self.steps_per_epoch, row)
        if distributed.is_main():
            tqdm.write(f"step {self.step}: {name} {self.metric} {scores[name][self.metric]:.4f}", file=sys.stderr)

        # Before the target is reached, a larger model would always win. The last evaluation is at the target by force where
        # the method has missed it: it counts if there is no other.
        counts = self.method.at_target(self.step) and not (self.best and self.method.misses_target)
        if self.settings.checkpoint == "best" and counts and scores[name][self.metric] > self.best.get("score", -math.inf):
            self.best = {"score": scores[name][self.metric], "step": self.step, "set": name}
            self.saves.write_best(models_of(self.student, self.method))

    def _take_up(self, state: dict[str, Any]) -> None:
        """Masks or gates, then the weights that belong to them."""
        # Masks and gates change the modules that the weights are loaded into.
        self.method.load_state_dict(state["method"])
        self.student.load_state_dict(state["student"])

    def _state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, generators of all processes included."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "calibration": self.calibration,
            "history": self.history.length,
            **models_of(self.student, self.method),
            "optimizer": self.optimizer.state_dict(),
            "micro": self.micro,
            "projection": self.projection.state_dict(),
            "random": distributed.everyones([random_state(self.accelerator.device, self.method.generator)]),
        }

    def _resume(self) -> bool:
        """Take up the last saved state, if there is one; without one, begin with an empty history."""
        state = self.saves.read()
        if state is None:
            self.history.truncate(0)
            return False

        self.step = state["step"]
        self.seconds = state["seconds"]
        self.best = state["best"]
        self.calibration = state["calibration"]
        self.micro = state["micro"]

        # Rows that were written after the save happen again.
        self.history.truncate(state["history"])
        self._take_up(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.projection.load_state_dict(state["projection"])

        # A run that goes on with more processes than before has no generator saved for the new ones.
        if distributed.index() < len(state["random"]):
            set_random_state(state["random"][distributed.index()], self.accelerator.device, self.method.generator)
        return True
