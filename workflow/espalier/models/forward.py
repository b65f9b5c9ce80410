"""The forward pass: a batch in, the outputs that a method asked for out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.utils import ModelOutput

from espalier.data.batches import Batch
from espalier.models.attention import Recording, recorded
from espalier.models.outputs import Outputs, Representation


def forward(
    model: nn.Module,
    batch: Batch,
    representation: Representation | None = None,
    hidden_states: bool = False,
    relations: Recording | None = None,
) -> Outputs:
    """One forward pass; where labels are masked tokens, the head computes these alone.

    Args:
        model: with a head.
        batch: padded rows.
        representation: which vector of each row to give, if any; where words have labels, those of all words.
        hidden_states: give the outputs of all encoder layers.
        relations: give the scores of all attention layers and these embeddings, or the maps of all heads.
    """
    states = hidden_states or representation is not None
    with _asked_for(model, batch.masked), recorded(model, relations) if relations else nullcontext() as record:
        raw = model(**batch.inputs(), output_hidden_states=states)

    return Outputs(
        logits=batch.logits_of(raw),
        representation=_vectors(raw.hidden_states[-1], batch, representation) if representation else None,
        hidden_states=tuple(raw.hidden_states[1:]) if hidden_states else (),
        embedding=record.embedding if relations else None,
        attention=tuple(record.attention) if relations else (),
        maps=tuple(record.maps or ()) if relations else (),
    )


@contextmanager
def _asked_for(model: nn.Module, masked: Bool[Tensor, "batch length"] | None) -> Iterator[None]:
    """Let the head see the masked tokens only, as one row: logits of every token would need gigabytes.

    Heads for masked-language modelling take each token by itself, so their logits are the same numbers.
    """
    if masked is None:
        yield
        return

    def gather(module: nn.Module, arguments: object, outputs: ModelOutput) -> ModelOutput:
        # (batch, length, hidden) → (1, masked tokens, hidden)
        outputs.last_hidden_state = outputs.last_hidden_state[masked].unsqueeze(0)
        return outputs

    handle = model.base_model.register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def _vectors(
    hidden: Float[Tensor, "batch length hidden"], batch: Batch, how: Representation
) -> Float[Tensor, "vectors hidden"]:
    """One vector for each row, or for each token that the batch says is compared."""
    return pool(hidden, batch.attention_mask, how) if batch.compared is None else hidden[batch.compared]


def pool(
    hidden: Float[Tensor, "batch length hidden"], mask: Int[Tensor, "batch length"], how: Representation
) -> Float[Tensor, "batch hidden"]:
    """The first token's state, or the mean over the real tokens."""
    if how == "first-token":
        return hidden[:, 0]

    # sum_i m_i h_i / sum_i m_i, where m is 1 at real tokens
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(dim=1) / real.sum(dim=1)
