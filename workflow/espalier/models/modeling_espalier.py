"""Compact encoders: where heads, FFN units and hidden dimensions live in each family, and models of unequal layers.

This file stands alone: it needs torch and transformers only and travels with every compact model as
`modeling_espalier.py`, so that `trust_remote_code=True` opens the model where espalier is not installed. Importing it
registers the compact classes with the Auto classes.

A compact model's config.json keeps the upstream schema `per_layer_config` (`num_attention_heads`, the width of the FFN,
`skip` for each layer) and adds `head_dim`, because a pruned width breaks hidden = heads x head size, and
`pooled_size`, the width of the classification head, which reads the pruned hidden states and is not pruned itself. Where it
has `embedding_rank`, the word table is a product of two tables of this rank. Where it has `head_rows`, heads have lost single
dimensions: for each layer null or the fields of `HeadRows`.
Shapes come from the configuration, never from tensors. The `model_type` in the file is the stock family's, because clients
of the ONNX file know no other. `pooled_size` tells a compact model. The FFN width of the whole model is 0, so that no stock
class builds one from the file by mistake (docs/decisions/0017-one-config-for-all-clients.md).
"""

import copy
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig

MODULE = "modeling_espalier"  # name of this file beside a compact model
KINDS_OF_MODEL = ("Model", "ForSequenceClassification", "ForMaskedLM", "ForQuestionAnswering", "ForTokenClassification")
PREFIX = "compact-"  # of the model types of compact configurations in Python; the file has the family's own
MARK = "pooled_size"  # a key that compact configurations have and stock ones have not
ATTENTION = "attention"  # words of the upstream `skip` list
FFN = "mlp"
OWN_KEYS = ("per_layer_config", "head_dim", MARK, "auto_map", "architectures", "model_type")  # not a stock model's
RANK = "embedding_rank"  # key of the configuration; no stock model has it
HEAD_ROWS = "head_rows"  # another one
VALUES = 2  # of the matrices that heads read with, the number of the values'; the others make queries, keys and their positions


class HeadRows(NamedTuple):
    """Dimensions of a layer's heads, where these have lost some."""

    size: int  # of every head as attention sees it
    queries: tuple[str, ...] = ()  # a text a head, "1" for each dimension of queries and keys that there is; empty: all are
    values: tuple[str, ...] = ()


class Shape(NamedTuple):
    """Everything about a model's size that pruning changes."""

    hidden: int  # dimensions of the residual stream
    head_dim: int  # dimensions of one attention head
    pooled: int  # width of the classification head
    layers: tuple[tuple[int, int], ...]  # heads and FFN units; 0: the sublayer is an identity, its LayerNorm included
    rows: tuple[HeadRows | None, ...] = ()  # for each layer; None, and no tuple at all: heads have `head_dim` dimensions

    def heads_in(self, layer: int) -> HeadRows:
        """Dimensions of a layer's heads, each text written out."""
        rows = (self.rows and self.rows[layer]) or HeadRows(self.head_dim)
        whole = ("1" * rows.size,) * self.layers[layer][0]
        return rows if rows.queries else HeadRows(rows.size, whole, whole)


class _Nothing(nn.Module):
    """Takes the place of a removed sublayer: returns zeros of its input's shape."""

    def forward(self, hidden_states: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


class _NothingAndMap(_Nothing):
    """Takes the place of a removed module that also returns an attention map: zeros, and None for the map."""

    def forward(self, hidden_states: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return torch.zeros_like(hidden_states), None


class _FactorisedTable(nn.Module):
    """Takes the place of a table of words: a narrow table, and a matrix that widens its rows."""

    def __init__(self, words: nn.Embedding, rank: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words.num_embeddings, rank, words.padding_idx, dtype=words.weight.dtype)
        self.projection = nn.Linear(rank, words.embedding_dim, bias=False, dtype=words.weight.dtype)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.projection(self.table(input_ids))


@dataclass(frozen=True)
class Family:
    """Paths of one architecture. `layers` and the embeddings lie below the base model, the other paths below a layer."""

    stem: str  # of the family's classes in transformers
    attention: str  # the module that splits the heads
    to_heads: tuple[str, ...]  # matrices whose rows belong to heads
    from_heads: str  # the matrix whose columns belong to heads
    ffn_in: tuple[str, ...]  # matrices whose rows belong to FFN units
    ffn_out: str  # the matrix whose columns belong to FFN units
    norms: tuple[str, str]  # LayerNorms of the attention sublayer and of the FFN sublayer
    refresh: tuple[str, ...]  # attributes of `attention` that depend on the number of heads; `head_sizes` gives their values
    pooled: tuple[str, ...]  # modules of the classification head, the one that reads the hidden states first
    layers: str = "encoder.layer"
    embeddings: tuple[str, ...] = tuple(f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type"))
    projections: tuple[str, ...] = ()  # what writes to the residual stream in the embeddings' place, where there is one
    embedding_norms: tuple[str, ...] = ("embeddings.LayerNorm",)  # LayerNorms that read tables
    final_norms: tuple[str, ...] = ()
    head_blocks: int = 1  # 3 where queries, keys and values are stacked in one matrix
    ffn_blocks: int = 1  # 2 where input and gate are stacked in one matrix
    pre_norm: bool = False  # LayerNorms begin a sublayer; otherwise they follow its residual sum
    dispatches: bool = True  # attention is looked up by name in transformers' registry
    movable: bool = True  # a layer does not depend on its place, so layers may be renumbered
    rotary: bool = False  # a dimension of queries and keys depends on its place in the head
    units: str = "intermediate_size"  # key of the FFN width in the stock configuration
    forbidden: tuple[str, ...] = ()  # modules that this table does not cover; a model that has one is refused
    paired: tuple[tuple[str, str], ...] = ()  # the first is covered only beside the second
    head_table: str = ""  # table with a column for each head that all layers share: a layer keeps all of its heads or none

    @property
    def config(self) -> type[PreTrainedConfig]:
        """The family's configuration class."""
        return getattr(transformers, f"{self.stem}Config")


def _bert(stem: str, pooled: tuple[str, ...], **changes) -> Family:
    layer = {
        "attention": "attention.self",
        "to_heads": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "from_heads": "attention.output.dense",
        "ffn_in": ("intermediate.dense",),
        "ffn_out": "output.dense",
        "norms": ("attention.output.LayerNorm", "output.LayerNorm"),
        "refresh": ("num_attention_heads", "attention_head_size", "all_head_size", "scaling"),
    }
    return Family(stem=stem, pooled=pooled, **(layer | changes))


def _rotary(stem: str, prefix: str) -> Family:
    """Encoders with rotated positions and a gated FFN, in the names of Llama's modules."""
    return Family(
        stem=stem, layers="layers", attention="self_attn", to_heads=tuple(f"self_attn.{name}_proj" for name in "qkv"),
        from_heads="self_attn.o_proj", ffn_in=("mlp.gate_proj", "mlp.up_proj"), ffn_out="mlp.down_proj",
        norms=("post_attention_layernorm", "post_mlp_layernorm"), refresh=("head_dim", "scaling"), rotary=True,
        pooled=(f"{prefix}.pooler.dense", "classifier"),
    )  # fmt: skip


_DENSE_HEAD = ("classifier.dense", "classifier.out_proj")
_PROJECTIONS = tuple(f"attention.self.{name}_proj" for name in ("query", "key", "value", "pos_key", "pos_query"))
# fmt: off
FAMILIES = {
    "bert": _bert("Bert", ("bert.pooler.dense", "classifier")),
    "roberta": _bert("Roberta", _DENSE_HEAD),
    "xlm-roberta": _bert("XLMRoberta", _DENSE_HEAD),
    "camembert": _bert("Camembert", _DENSE_HEAD),
    "electra": _bert("Electra", _DENSE_HEAD, projections=("embeddings_project",)),
    "deberta-v2": _bert(
        "DebertaV2", ("pooler.dense", "classifier"), to_heads=_PROJECTIONS,
        refresh=("num_attention_heads", "attention_head_size", "all_head_size"), dispatches=False,
        embeddings=(*Family.embeddings, "encoder.rel_embeddings"), projections=("embeddings.embed_proj",),
        embedding_norms=("embeddings.LayerNorm", "encoder.LayerNorm"),
        forbidden=("encoder.conv",), paired=(("encoder.rel_embeddings", "encoder.LayerNorm"),),
    ),
    "distilbert": Family(
        stem="DistilBert", layers="transformer.layer", units="hidden_dim",
        attention="attention", to_heads=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        from_heads="attention.out_lin", ffn_in=("ffn.lin1",), ffn_out="ffn.lin2", norms=("sa_layer_norm", "output_layer_norm"),
        refresh=("n_heads", "attention_head_size", "dim", "scaling"), pooled=("pre_classifier", "classifier"),
    ),
    "modernbert": Family(
        stem="ModernBert", layers="layers", pre_norm=True, movable=False,
        attention="attn", to_heads=("attn.Wqkv",), head_blocks=3, from_heads="attn.Wo", rotary=True,
        ffn_in=("mlp.Wi",), ffn_blocks=2, ffn_out="mlp.Wo", norms=("attn_norm", "mlp_norm"),
        refresh=("head_dim",), pooled=("head.dense", "head.norm", "classifier"),
        embeddings=("embeddings.tok_embeddings",), embedding_norms=("embeddings.norm",), final_norms=("final_norm",),
    ),
    "mpnet": _bert(
        "MPNet", _DENSE_HEAD, attention="attention.attn", to_heads=tuple(f"attention.attn.{name}" for name in "qkv"),
        from_heads="attention.attn.o", norms=("attention.LayerNorm", "output.LayerNorm"), dispatches=False,
        refresh=("num_attention_heads", "attention_head_size", "all_head_size"), head_table="encoder.relative_attention_bias",
    ),
    "nomic_bert": _rotary("NomicBert", "nomic_bert"),
    "gte": _rotary("Gte", "gte"),
}
# fmt: on


def is_compact(config: PreTrainedConfig) -> bool:
    """Whether a configuration gives every layer its own size."""
    return config.model_type.startswith(PREFIX)


def family_of(config: PreTrainedConfig) -> Family:
    """The table of a model's family.

    Raises:
        ValueError: the family is not supported; the message names it and the supported ones.
    """
    name = config.model_type.removeprefix(PREFIX)
    if name not in FAMILIES:
        raise ValueError(f"model type {name!r} cannot be pruned structurally; supported: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def find(module: nn.Module, path: str) -> nn.Module | None:
    """The module at a path, None where there is none."""
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def shape_of(config: PreTrainedConfig) -> Shape:
    """The shape that a stock or compact configuration describes."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    units = family_of(config).units

    layers = []
    for index in range(config.num_hidden_layers):
        layer = config.per_layer_config[index]
        skip = getattr(layer, "skip", ())
        heads = 0 if ATTENTION in skip else layer.num_attention_heads
        ffn = 0 if FFN in skip else getattr(layer, units)
        layers.append((heads, ffn))

    rows = tuple(entry and HeadRows(entry[0], *map(tuple, entry[1:])) for entry in getattr(config, HEAD_ROWS, None) or ())
    return Shape(config.hidden_size, head_dim, getattr(config, "pooled_size", config.hidden_size), tuple(layers), rows)


def whole_heads(config: PreTrainedConfig) -> int:
    """Heads of every layer that has attention, where a layer keeps all of its heads or none; 0 where each may go alone."""
    return config.num_attention_heads if family_of(config).head_table else 0


class _Compact:
    """Builds the parent at the reduced width, then gives every layer its own size."""

    def __init__(self, config: PreTrainedConfig) -> None:
        shape = shape_of(config)
        family = family_of(config)
        plain = copy.deepcopy(config)
        plain.per_layer_config = None
        # the parents demand that the number of heads divides the width: 1 always does; the layers are resized below
        plain.num_attention_heads = 1
        setattr(plain, family.units, 1)
        super().__init__(plain)

        check_covered(self.base_model, family)
        if whole := whole_heads(config):
            old = find(self.base_model, family.head_table)
            _replace(self.base_model, family.head_table, nn.Embedding(old.num_embeddings, whole, dtype=old.weight.dtype))
        for index, layer in zip(range(len(shape.layers)), find(self.base_model, family.layers), strict=True):
            _resize_attention(layer, family, index, shape)
            _resize_ffn(layer, family, shape.layers[index][1], shape.hidden)
        _resize_head(self, family, shape)
        if rank := getattr(config, RANK, None):
            words = family.embeddings[0]
            _replace(self.base_model, words, _FactorisedTable(find(self.base_model, words), rank))

        config._attn_implementation = plain._attn_implementation
        for module in self.modules():
            if getattr(module, "config", None) is plain:
                module.config = config


def check_covered(base: nn.Module, family: Family) -> None:
    """Refuse a base model with parts that the table does not cover.

    Raises:
        ValueError: the model has such a part; the message names it.
    """
    for path in family.forbidden:
        if find(base, path) is not None:
            raise ValueError(f"this {family.stem} model has {path}, which cannot be pruned structurally")

    for path, other in family.paired:
        if find(base, path) is not None and find(base, other) is None:
            raise ValueError(f"this {family.stem} model has {path} without {other}, which cannot be pruned structurally")


def _resize_attention(layer: nn.Module, family: Family, index: int, shape: Shape) -> None:
    heads, _ = shape.layers[index]
    if not heads:
        _remove(layer, family.attention, _NothingAndMap, family.from_heads, family.norms[0])
        return

    size, queries, values = shape.heads_in(index)
    for number, path in enumerate(family.to_heads):
        flags = "".join("".join(block) for block in blocks_of(family, number, queries, values))
        _linear(layer, path, shape.hidden, flags.count("1"))
        if "0" in flags and (module := find(layer, path)) is not None:
            # dimensions that there are stand one after another; the others read the place behind the last one
            places = [flags[:place].count("1") if flag == "1" else flags.count("1") for place, flag in enumerate(flags)]
            module.register_forward_hook(partial(_with_zeros, places))

    there = [place for place, flag in enumerate("".join(values)) if flag == "1"]
    _linear(layer, family.from_heads, len(there), shape.hidden)
    if len(there) < heads * size:
        find(layer, family.from_heads).register_forward_pre_hook(partial(_without_zeros, there))

    sizes = head_sizes(heads, size)
    for attribute in family.refresh:
        setattr(find(layer, family.attention), attribute, sizes[attribute])


def blocks_of(family: Family, number: int, queries: object, values: object) -> list:
    """What belongs to the blocks of a matrix of `to_heads`: `queries`, or `values` in the values' block."""
    first = number * family.head_blocks
    return [values if block == VALUES else queries for block in range(first, first + family.head_blocks)]


def _with_zeros(places: list[int], module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    return nn.functional.pad(output, (0, 1)).index_select(-1, torch.tensor(places, device=output.device))


def _without_zeros(there: list[int], module: nn.Module, inputs: tuple) -> tuple:
    return (inputs[0].index_select(-1, torch.tensor(there, device=inputs[0].device)),)


def head_sizes(heads: int, head_dim: int) -> dict[str, int | float]:
    """Attributes of attention modules, in any family, that depend on the number of heads."""
    counts = dict.fromkeys(("num_attention_heads", "n_heads"), heads)
    widths = dict.fromkeys(("all_head_size", "dim"), heads * head_dim)
    return counts | widths | {"attention_head_size": head_dim, "head_dim": head_dim, "scaling": head_dim**-0.5}


def _resize_ffn(layer: nn.Module, family: Family, units: int, hidden: int) -> None:
    if not units:
        _remove(layer, family.ffn_in[0].rpartition(".")[0], _Nothing, family.ffn_out, family.norms[1])
        return

    for path in family.ffn_in:
        _linear(layer, path, hidden, family.ffn_blocks * units)
    _linear(layer, family.ffn_out, units, hidden)


def _remove(layer: nn.Module, inner: str, nothing: type[nn.Module], output: str, norm: str) -> None:
    """Replace a sublayer by zeros and its LayerNorm by the identity."""
    _replace(layer, inner, nothing())
    if not output.startswith(f"{inner}."):
        _replace(layer, output, _Nothing())
    _replace(layer, norm, nn.Identity())


def _resize_head(model: nn.Module, family: Family, shape: Shape) -> None:
    # only classification heads are resized, of texts or tokens, and the part of theirs that an encoder alone has; others keep
    # the parent's width
    paths = family.pooled
    if not find(model, paths[-1]):
        own = f"{model.base_model_prefix}."
        paths = tuple(path.removeprefix(own) for path in paths if path.startswith(own) and model.base_model is model)

    width = shape.hidden
    for path in paths:
        # a head for tokens may lack what comes before its last matrix, which then reads the hidden states
        if find(model, path) is None:
            continue
        if isinstance(module := find(model, path), nn.LayerNorm):
            _replace(model, path, nn.LayerNorm(shape.pooled, eps=module.eps, bias=module.bias is not None))
        else:
            _linear(model, path, width, module.out_features if path == family.pooled[-1] else shape.pooled)
        width = shape.pooled


def _linear(root: nn.Module, path: str, inputs: int, outputs: int) -> None:
    """Give the matrix at a path another size; nothing happens where there is no matrix."""
    if (old := find(root, path)) is not None:
        _replace(root, path, nn.Linear(inputs, outputs, bias=old.bias is not None, dtype=old.weight.dtype))


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(find(root, parent) if parent else root, name, module)


class _CompactConfig:
    """What compact configurations do in their own way: their files have the family's own model type."""

    def to_dict(self) -> dict:
        return super().to_dict() | {"model_type": self.model_type.removeprefix(PREFIX)}

    @classmethod
    def get_config_dict(cls, *arguments, **options) -> tuple[dict, dict]:
        content, others = super().get_config_dict(*arguments, **options)
        return content | {"model_type": cls.model_type}, others


def _register(model_type: str, family: Family) -> type[PreTrainedConfig]:
    """Make a family's compact classes, under names of this module, and register them with the Auto classes."""
    name = f"Compact{family.stem}"
    words = family.config.attribute_map | ({} if family.units == "intermediate_size" else {"intermediate_size": family.units})
    members = {"model_type": f"{PREFIX}{model_type}", "attribute_map": words, "__module__": __name__}
    config = type(f"{name}Config", (_CompactConfig, family.config), members)
    AutoConfig.register(config.model_type, config, exist_ok=True)
    if __name__.startswith("espalier."):
        _read_both(family.config, config)

    globals()[config.__name__] = config
    # transformers has no model for spans of some families
    for kind in (kind for kind in KINDS_OF_MODEL if hasattr(transformers, f"{family.stem}{kind}")):
        parents = (_Compact, getattr(transformers, f"{family.stem}{kind}"))
        model = type(f"{name}{kind}", parents, {"config_class": config, "__module__": __name__})
        globals()[model.__name__] = model
        getattr(transformers, f"AutoModel{kind.removeprefix('Model')}").register(config, model, exist_ok=True)

    return config


def _read_both(stock: type[PreTrainedConfig], compact: type[PreTrainedConfig]) -> None:
    """Let AutoConfig make a compact configuration of a file that has the mark, and the stock one of any other.

    The class that is registered makes no objects of its own. It claims to stand in the stock class's module, because
    transformers would let a class from elsewhere win over the code of a repository that the user trusts.
    """

    def new(cls, *arguments, **values):
        return stock(*arguments, **values)

    def from_dict(cls, content, **options):
        if MARK in content:
            return compact.from_dict(content | {"model_type": compact.model_type}, **options)
        return stock.from_dict(content, **options)

    own = {"__new__": new, "from_dict": classmethod(from_dict)}
    members = own | {"__module__": stock.__module__, "__doc__": stock.__doc__}
    AutoConfig.register(stock.model_type, type(stock.__name__, (stock,), members), exist_ok=True)


COMPACT_CONFIGS = {family.stem: _register(model_type, family) for model_type, family in FAMILIES.items()}
