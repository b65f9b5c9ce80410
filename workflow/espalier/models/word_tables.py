"""Smaller word tables: fewer rows for a smaller vocabulary, or a product of two tables in the place of one."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from espalier.models.classes import auto_class, encoder_prefix, model_class
from espalier.models.compact_config import compact_config
from espalier.models.modeling_espalier import family_of, shape_of

TOKEN_ID = "_token_id"
"""End of the keys of config.json that hold a token's number."""


def named_tokens(config: PreTrainedConfig) -> dict[str, int]:
    """Key of config.json → the token that it names; only tokens that the model has a row for."""
    numbers = {key: value for key, value in config.to_dict().items() if key.endswith(TOKEN_ID)}
    return {key: value for key, value in numbers.items() if isinstance(value, int) and 0 <= value < config.vocab_size}


def counts_from_padding(model: PreTrainedModel) -> bool:
    """Whether the first position is the padding token's number plus one, so that this number must stay."""
    tables = [module for name, module in model.named_modules() if name.endswith(".position_embeddings")]
    return any(getattr(table, "padding_idx", None) is not None for table in tables)


def needed_tokens(model: PreTrainedModel) -> set[int]:
    """Tokens that a model cannot do without: those that its configuration names, and those before the padding token where
    positions are counted from its number."""
    needed = {*named_tokens(model.config).values()}
    return needed | ({*range(model.config.pad_token_id)} if counts_from_padding(model) else set())


@torch.no_grad()
def with_tokens(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A copy of a model whose vocabulary is these tokens, in this order: same outputs for them, and logits for them alone.

    Args:
        model: with any head; an output table of words, and its bias, lose the same rows.
        kept: numbers of tokens, all that the configuration names among them.

    Raises:
        ValueError: a token has no row in the model, or one of `needed_tokens` is not kept.
    """
    rows = model.config.vocab_size
    if max(kept) >= rows:
        raise ValueError(f"token {max(kept):,} has no row in the word table, which has {rows:,}")

    config = copy.deepcopy(model.config)
    config.vocab_size = len(kept)
    new = {number: place for place, number in enumerate(kept)}
    for key, number in named_tokens(model.config).items():
        if number not in new:
            raise ValueError(f"{key} {number} of config.json is not among the tokens that are kept")
        setattr(config, key, new[number])

    if counts_from_padding(model) and config.pad_token_id != model.config.pad_token_id:
        raise ValueError(f"positions are counted from pad_token_id {model.config.pad_token_id}, before which a token is gone")

    # Only the number of words differs between the two models, so shapes say which tensors have one row a word.
    small = model_class(config, auto_class(model))(config)
    state, chosen = model.state_dict(), torch.tensor(kept)
    for name, target in small.state_dict().items():
        source = state[name]
        for axis, size in enumerate(target.shape):
            if source.shape[axis] != size:
                source = source.index_select(axis, chosen.to(source.device))
        target.copy_(source)
    return small.to(model.device).train(model.training)


def word_table(model: PreTrainedModel) -> Float[Tensor, "rows width"]:
    """A model's table of words."""
    return model.get_input_embeddings().weight


def saves(table: Float[Tensor, "rows width"], rank: int) -> bool:
    """Whether a product of two tables of this rank has fewer numbers than the table."""
    rows, width = table.shape
    return rank * (rows + width) < rows * width


def factors(table: Float[Tensor, "rows width"], rank: int) -> tuple[Float[Tensor, "rows rank"], Float[Tensor, "rank width"]]:
    """The two matrices of a rank whose product is nearest to a table, with singular values shared between both.

    Source: Eckart and Young 1936: no product of this rank is nearer than the truncated singular value decomposition; the sum of
    squared errors is that of the squared singular values that are left out.
    """
    left, values, right = torch.linalg.svd(table.double(), full_matrices=False)
    root = values[:rank].sqrt()
    return (left[:, :rank] * root).to(table.dtype), (root[:, None] * right[:rank]).to(table.dtype)


@torch.no_grad()
def product_error(table: Float[Tensor, "rows width"], rank: int) -> float:
    """Norm of what a product of this rank leaves out of a table, relative to the table's own norm, in [0, 1]."""
    first, second = factors(table, rank)
    return float((table - first @ second).norm() / table.norm())


@torch.no_grad()
def factorised(model: PreTrainedModel, rank: int) -> PreTrainedModel:
    """A copy of a model in the compact format whose word table is a product of two smaller ones.

    Args:
        model: of a family that the compact format knows, without a head that predicts words.
        rank: of the product; below the width of the table.

    Raises:
        ValueError: the model's family has no compact format.
    """
    config = compact_config(model.config, shape_of(model.config))
    config.embedding_rank = rank
    small = model_class(config, auto_class(model))(config)

    words = f"{encoder_prefix(model)}{family_of(model.config).embeddings[0]}"
    state = model.state_dict()
    first, second = factors(state.pop(f"{words}.weight"), rank)
    # a linear layer's weight is [outputs, inputs]
    small.load_state_dict(state | {f"{words}.table.weight": first, f"{words}.projection.weight": second.T})
    return small.to(model.device).train(model.training)
