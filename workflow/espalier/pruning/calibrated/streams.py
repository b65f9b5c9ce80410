"""Rows on their way through a model, one layer at a time, and what its sublayers read and add up meanwhile.

To look at a layer of a changing model, the model is not run from the beginning: hidden states of all rows are kept, and the
layers before are passed through. The model itself still makes masks and positions, so that every family is run by its own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.data.batches import Batch
from espalier.models.modeling_espalier import Family, family_of, find
from espalier.pruning.parts import SUBLAYERS, Sublayer


class Seen(NamedTuple):
    """What a sublayer did to the real tokens of a batch."""

    inputs: Float[Tensor, "tokens width"]
    """What its output matrix read."""
    written: Float[Tensor, "tokens hidden"]
    """What the output matrix wrote, its bias included."""
    total: Float[Tensor, "tokens hidden"]
    """The residual sum that it came to, before a LayerNorm."""


class _Reached(Exception):  # noqa: N818
    """The point is reached up to which a model had to run."""


class Stream:
    """The hidden states that enter one layer of a model, for all batches."""

    def __init__(self, model: PreTrainedModel, batches: Sequence[Batch]) -> None:
        """Run the embeddings.

        Args:
            model: stock or compact, gated or not, in eval mode. Its weights may change between two calls.
            batches: the rows.
        """
        self.base: nn.Module = model.base_model
        self.family: Family = family_of(model.config)
        self.layers: nn.ModuleList = find(self.base, self.family.layers)
        self.batches = batches
        self.layer = 0
        self.gives_tuples = False
        self.states = [self._entering(batch) for batch in batches]

    def has(self, kind: Sublayer) -> bool:
        """Whether the present layer has this sublayer."""
        return isinstance(self._output(kind), nn.Linear)

    def _output(self, kind: Sublayer) -> nn.Module | None:
        """The output matrix of a sublayer of the present layer; something else where the sublayer is gone."""
        path = self.family.from_heads if kind == "attention" else self.family.ffn_out
        return find(self.layers[self.layer], path)

    def sublayer(self, kind: Sublayer) -> Iterator[Seen]:
        """What a sublayer that the present layer has does, batch by batch; the layer is run no further than needed."""
        for place in range(len(self.batches)):
            yield self._real(place, self._run(place, (kind,), whole=False)[kind])

    def advance(self, look: Callable[[int, Sublayer, Seen], None] | None = None) -> None:
        """Take all rows through the present layer.

        Args:
            look: gets number of the batch, sublayer and what it did to the real tokens, for each sublayer of the layer.
        """
        kinds = tuple(kind for kind in SUBLAYERS if look and self.has(kind))
        after = []
        for place in range(len(self.batches)):
            seen = self._run(place, kinds, whole=True)
            after.append(seen["layer"])
            for kind in kinds:
                look(place, kind, self._real(place, seen[kind]))

        self.states = after
        self.layer += 1

    def _real(self, place: int, seen: Sequence[Float[Tensor, "batch length _"]]) -> Seen:
        """The real tokens of a batch, row after row."""
        real = self.batches[place].attention_mask.bool()
        return Seen(*(states[real] for states in seen))

    @torch.no_grad()
    def _entering(self, batch: Batch) -> Float[Tensor, "batch length hidden"]:
        """The hidden states that enter the first layer."""
        entered = []

        def stop(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            entered.append(inputs[0])
            raise _Reached

        with ExitStack() as hooks:
            hooks.callback(self.layers[0].register_forward_pre_hook(stop).remove)
            self._start(batch)
        return entered[0]

    @torch.no_grad()
    def _run(self, place: int, kinds: Sequence[Sublayer], *, whole: bool) -> dict[str, Any]:
        """Run the present layer on a batch: what its sublayers of these kinds did, and what it gave if it ran as a whole."""
        seen: dict[str, Any] = {}
        with ExitStack() as hooks:
            for kind in kinds:
                self._watch(kind, seen, hooks, stops=not whole)
            hooks.enter_context(self._passed_through(place, seen))
            self._start(self.batches[place])
        return seen

    def _start(self, batch: Batch) -> None:
        # The point that was asked for is always reached, so what would follow it, such as the head, never runs.
        try:
            self.base(**batch.inputs())
        except _Reached:
            return
        raise AssertionError("the layer was not reached")

    def _watch(self, kind: Sublayer, seen: dict[str, Any], hooks: ExitStack, *, stops: bool) -> None:
        """Note what a sublayer reads, writes and adds up to."""
        output = self._output(kind)
        noted: list[Tensor] = []

        def written(module: nn.Module, inputs: tuple[Any, ...], result: Tensor) -> None:
            noted.extend((inputs[0], result))

        def added(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen[kind] = (*noted, inputs[0])
            if stops:
                raise _Reached

        hooks.callback(output.register_forward_hook(written).remove)
        if (reader := self._reader(kind)) is not None:
            hooks.callback(reader.register_forward_pre_hook(added).remove)
            return

        # The residual sum of the last sublayer of a pre-norm layer is what the layer gives.
        def given(states: Tensor) -> None:
            seen[kind] = (*noted, states)

        seen.setdefault("given", []).append(given)

    def _reader(self, kind: Sublayer) -> nn.Module | None:
        """The module that reads a sublayer's residual sum: its LayerNorm, or where LayerNorms come first, that of the next."""
        layer, (first, second) = self.layers[self.layer], self.family.norms
        if self.family.pre_norm:
            return find(layer, second) if kind == "attention" else None
        return find(layer, first if kind == "attention" else second)

    @contextmanager
    def _passed_through(self, place: int, seen: dict[str, Any]) -> Iterator[None]:
        """Let the present layer read the kept states, and the layers before it give back what they are given."""
        own = self.layers[self.layer].forward

        def passed(states: Tensor, *arguments: Any, **options: Any) -> Any:
            return (states, None) if self.gives_tuples else states

        def run(states: Tensor, *arguments: Any, **options: Any) -> Any:
            result = own(self.states[place], *arguments, **options)
            self.gives_tuples = isinstance(result, tuple)
            seen["layer"] = result[0] if self.gives_tuples else result
            for given in seen.pop("given", ()):
                given(seen["layer"])
            raise _Reached

        # An attribute of the module hides the method of its class, until it is deleted.
        changed = self.layers[: self.layer + 1]
        for module in changed:
            module.forward = run if module is self.layers[self.layer] else passed
        try:
            yield
        finally:
            for module in changed:
                del module.forward
