"""A pretrained net with its tokenizer and head: what tasks compute with and what methods edit.

Both layouts give flat states [tokens, width] of sequences end to end, so nothing above sees which is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tunesmith.contracts import Pixels, Tokens
from tunesmith.errors import ModelError
from tunesmith.models import anatomy, bodies, stock, vocabulary
from tunesmith.models.anatomy import Anatomy, Layout
from tunesmith.models.catalog import Source
from tunesmith.models.fused import FastLinear
from tunesmith.models.heads import OutputLayer, Pooled, PooledClassifier, mean_of_rows
from tunesmith.models.image import ImageReader
from tunesmith.models.kept import Kept
from tunesmith.models.learner import Learner
from tunesmith.models.matmul import BLAS, Matmul
from tunesmith.models.noise import with_noise
from tunesmith.models.padding import padded, padded_types
from tunesmith.models.prompt import own_places, with_prompt
from tunesmith.models.segments import Look, pairs
from tunesmith.models.stream import Stream, stream_of
from tunesmith.models.text import TextEncoder

_LOOK_BYTES = 2**26

Kind = Literal[
    "classifier",
    "embedder",
    "token-classifier",
    "span-classifier",
    "masked-lm",
    "causal-lm",
    "seq2seq-lm",
    "image-classifier",
]
Pooling = Literal["mean", "cls", "last", "attention"]
Trunk = Callable[[Sequence[Tokens], Stream, Look | None], Tensor]
"""Rows, as a stream and what of it is looked at -> last hidden states [tokens, width], or [looked at, width]."""


@dataclass
class Model(Learner):
    """A net, how it reads text, and which of its parameters are new."""

    reads: TextEncoder | ImageReader
    """What rows go through before they reach the net."""
    kind: Kind
    anatomy: Anatomy
    source: Source
    device: torch.device
    pooling: Pooling | None = None
    layout: Layout = "packed"
    matmul: Matmul = BLAS
    """The library that multiplies its matrices."""
    sharing: bool = True
    """Compute what rows begin with in common once, where that is exact."""
    stock: bool = False
    """Run the stock blocks even where `bodies.py` knows their shape: what its tests compare with."""
    kept: Kept | None = None
    """What the frozen blocks made of rows, where that was kept."""
    prefix: tuple[int, ...] = ()
    """Virtual tokens before every row that is read."""
    peft: Any = None
    """The PEFT library's model around the net, where its adapters are in it."""
    new_ids: tuple[int, ...] = ()
    """Tokens that the pretrained model did not have."""
    reshaped: bool = False
    """Whether it has other blocks or tokens than its files."""
    noise: float = 0.0
    """Noise on the embeddings while the net learns."""
    checkpointing: bool = False
    """Keep only the inputs of blocks, and compute the rest again in the backward: less memory, a third more work."""
    trunk: Trunk | None = field(default=None, repr=False)
    """What runs its blocks, where they run with the rows of other models (crew.py); None: it does so itself."""
    fillers: int = 0
    """Tokens of filler that were computed so far."""
    _stock_checkpointing: bool = field(default=False, repr=False)

    @property
    def config(self) -> Any:
        """The Transformers config."""
        return self.net.config

    @property
    def family(self) -> str:
        """`encoder`, `decoder`, `encoder-decoder` or `vision`."""
        return self.anatomy.family

    @property
    def text(self) -> TextEncoder:
        """The tokenizer and context of a model that reads texts."""
        assert isinstance(self.reads, TextEncoder), "a vision net reads no text"
        return self.reads

    @property
    def root(self) -> str:
        """Path of the base model in the net: `encoder`, `model`, `bert` ...; empty where it is the net itself."""
        if isinstance(self.net, Pooled):
            return "encoder"
        prefix = str(self.net.base_model_prefix)
        return prefix if hasattr(self.net, prefix) else ""

    @property
    def base(self) -> nn.Module:
        """The pretrained trunk, without any head."""
        return self.net.get_submodule(self.root)

    @property
    def depth(self) -> int:
        """Blocks of the trunk."""
        return len(anatomy.blocks(self.base, self.anatomy))

    def narrow_vocabulary(self, ids: Iterable[int]) -> None:
        """Let only the embeddings of these tokens learn, where the table learns at all: the others have no gradient.
        The two halves of an encoder-decoder share theirs, or learn it for other tokens: it stays whole."""
        if self.family == "encoder-decoder":
            return
        net: Any = self.base
        table = net.get_input_embeddings()
        path = next(name for name, module in self.net.named_modules() if module is table)
        vocabulary.narrow(self.net, path, ids)

    def head_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The net's children beside its base model: its head."""
        if not self.root:
            yield self.anatomy.head, self.net.get_submodule(self.anatomy.head)
            return
        for name, child in self.net.named_children():
            if name != self.root and any(True for _ in child.parameters()):
                yield name, child

    def depth_of(self, name: str) -> int | None:
        """Which block a parameter is in, or None outside the blocks."""
        return anatomy.depth_of(self.base, self.anatomy, name.removeprefix(f"{self.root}."))

    def halve(self) -> None:
        """As any net; the PEFT library's layers keep numbers in buffers too. Raises ModelError for those that keep some
        elsewhere."""
        if self.peft is not None and str(self.peft.peft_config["default"].peft_type.value) == "ADAMSS":
            raise ModelError(
                "an ADAMSS adapter computes in full precision only",
                where="train.precision",
                hint="set it to fp32",
            )
        super().halve()
        for module in self.net.modules() if self.peft is not None else ():
            for buffer in module.buffers() if hasattr(module, "base_layer") else ():
                if buffer.is_floating_point():
                    buffer.data = buffer.data.to(torch.bfloat16)

    def states(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """Last hidden states [tokens, width] of sequences end to end, and their lengths [rows]."""
        lengths = [len(row.ids) for row in rows]
        if self.layout == "padded":
            ids, mask = self.padded(rows)
            types = padded_types(with_prompt(rows, self.prefix), ids) if self._told_types() else None
            out = self.base(input_ids=ids, attention_mask=mask, **({} if types is None else {"token_type_ids": types}))
            states = out.last_hidden_state[mask.bool()]
        else:
            stream = self.stream(rows)
            states = stream.of_rows(self._trunk(rows, stream, None))
        if self.prefix:
            states = states[own_places(lengths, len(self.prefix)).to(self.device)]
        return states, torch.tensor(lengths, device=self.device)

    def states_at(self, rows: Sequence[Tokens], positions: Tensor) -> Tensor:
        """Last hidden states [positions, width] at positions of sequences end to end; the last block computes no
        others where it can. Positions are on the host, where asking for a value waits for nothing."""
        if self.layout == "padded":
            return self.states(rows)[0][positions.to(self.device)]
        stream = self.stream(rows)
        if self.prefix:
            positions = own_places([len(row.ids) for row in rows], len(self.prefix))[positions]
        index, back = torch.unique(stream.at(positions), return_inverse=True)
        look = Look(index.to(self.device), tuple(index.tolist()))
        return self._trunk(rows, stream, look)[back.to(self.device)]

    def label_logits(self, rows: Sequence[Tokens], positions: Tensor) -> Tensor:
        """Next-token logits [positions, vocabulary] at positions of sequences end to end; no others are computed."""
        return torch.as_tensor(self.output_layer(self.states_at(rows, positions)))

    @property
    def output_layer(self) -> nn.Module:
        """States -> next-token logits."""
        net: Any = self.net
        layer = net.get_output_embeddings()
        bias = getattr(net, "final_logits_bias", None)
        bias = bias if bias is not None and bool(bias.any()) else None
        softcap = getattr(self.config, "final_logit_softcapping", None)
        if self.config.model_type == "encoder-decoder":
            layer = net.get_submodule(self.anatomy.head).predictions.decoder
        elif bias is not None or softcap is not None:
            layer = OutputLayer(layer, bias, softcap)
        assert isinstance(layer, nn.Module)
        return layer

    def class_logits(self, rows: Sequence[Tokens]) -> Tensor:
        """Logits [rows, labels] of a classifier."""
        if isinstance(self.net, PooledClassifier):
            return torch.as_tensor(self.net(self.embeddings(rows)))
        lengths = torch.tensor([len(row.ids) for row in rows])
        ends = lengths.cumsum(0)
        if self.pooling == "last":
            return torch.as_tensor(self.net.get_submodule("score")(self.states_at(rows, ends - 1)))
        return anatomy.first_token_logits(self.net, self.base, self.anatomy, self.states_at(rows, ends - lengths))

    @property
    def linear_head(self) -> bool:
        """Whether a classifier's head is one linear layer over states that are pooled without learning."""
        deep = isinstance(self.net, PooledClassifier) and len(self.net.layers) > 0
        return self.pooling in ("mean", "last") and not deep

    def embeddings(self, rows: Sequence[Tokens]) -> Tensor:
        """Pooled states [rows, width], not yet brought to length 1."""
        if self.pooling == "mean":
            return mean_of_rows(*self.states(rows))
        if self.pooling == "attention":
            assert isinstance(self.net, PooledClassifier)
            return self.net.mean(*self.states(rows))
        lengths = torch.tensor([len(row.ids) for row in rows])
        ends = lengths.cumsum(0)
        return self.states_at(rows, ends - (1 if self.pooling == "last" else lengths))

    def token_logits(self, rows: Sequence[Tokens], positions: Tensor | None = None) -> Tensor:
        """Logits [tokens, labels] of sequences end to end, or [positions, labels] at positions on the host."""
        states = self.states(rows)[0] if positions is None else self.states_at(rows, positions)
        return anatomy.token_logits(self.net, states)

    def image_logits(self, images: Sequence[Pixels]) -> Tensor:
        """Logits [images, labels]."""
        assert isinstance(self.reads, ImageReader), "this model reads no images"
        pixels = torch.stack([self.reads.pixels(image) for image in images])
        self.lend_matmul()
        return torch.as_tensor(self.net(pixel_values=pixels.to(self.device, next(self.net.parameters()).dtype)).logits)

    def image_features(self, images: Sequence[Pixels]) -> Tensor:
        """What the last linear layer reads [images, width]."""
        head = [module for module in self.net.modules() if isinstance(module, nn.Linear)][-1]
        read: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            self.image_logits(images)
        finally:
            hook.remove()
        return read[0]

    def masked_logits(self, rows: Sequence[Tokens]) -> Tensor:
        """Logits [trained tokens, vocabulary] of sequences end to end."""
        places = torch.tensor([k for k, hidden in enumerate(h for row in rows for h in row.trained) if hidden])
        return anatomy.masked_logits(self.net, self.states_at(rows, places.long()))

    def body(self) -> bodies.Body | None:
        """The trunk as blocks that can be run by themselves, where their shape is known."""
        return None if self.stock else bodies.body_of(self.base, self.anatomy, self.matmul)

    def stream(self, rows: Sequence[Tokens]) -> Stream:
        """Rows with their prompt, laid end to end; what they begin with in common once, where that changes nothing."""
        exact = self.sharing and self.kept is None and self.anatomy.family == "decoder" and self.device.type == "cpu"
        share = exact and not self.draws() and not anatomy.both_ways(self.config)
        made = stream_of(
            with_prompt(rows, self.prefix), self.anatomy.first_position, self.device, share=share, grid=self._grid()
        )
        self.fillers += made.filler
        return made

    def _grid(self) -> int:
        """Tokens of a stream come in multiples of this while it learns: oneDNN writes code for each new shape, which
        takes 1 to 3 MB, and for the gradient of a weight as long as a tenth of an update of MiniLM."""
        learning = self.matmul.name == "onednn" and self.net.training  # also where a joint loss looks ahead
        return 32 if learning else 1

    def draws(self) -> bool:
        """Whether a forward draws random numbers: then what rows begin with in common must be computed for each."""
        if not self.net.training:
            return False
        rates = [module.p for module in self.net.modules() if isinstance(module, nn.Dropout) and module.training]
        return any([self.noise, *rates, float(getattr(self.config, "attention_dropout", 0.0) or 0.0)])

    def height(self, name: str) -> int:
        """How far a parameter is from the answer: 0 for the head and what follows the last block, 1 for the last block,
        and so on; one more than there are blocks for what stands before them."""
        inside = name.removeprefix(f"{self.root}.")
        outside = inside == name if self.root else name.startswith(f"{self.anatomy.head}.")
        return 0 if outside else anatomy.height(self.base, self.anatomy, inside)

    def frozen_blocks(self) -> int:
        """Blocks from the first on in which, as before them, nothing learns."""
        return max(self.depth - max((self.height(name) for name, _ in self.trained()), default=0), 0)

    def train(self) -> None:
        """Training mode, but for what is frozen from the embeddings on: dropout there would only be noise."""
        self.net.train()
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()  # on its stored statistics: an update must not depend on how its batch was cut
        frozen = self.frozen_blocks()
        if frozen:
            for name, child in self.base.named_children():
                holds_blocks = name in {path.split(".")[0] for path in anatomy.stacks(self.anatomy)}
                if not holds_blocks and name not in self.anatomy.after:
                    child.eval()
            for block in anatomy.blocks(self.base, self.anatomy)[:frozen]:
                block.eval()

    def _trunk(self, rows: Sequence[Tokens], stream: Stream, look: Look | None) -> Tensor:
        """Last hidden states [tokens, width], or [looked at, width]."""
        body = None if self.trunk is not None else self.body()
        runs_blocks = body is not None or self.trunk is not None
        if look is not None and runs_blocks and self._wide(stream, look):
            return self._trunk(rows, stream, None)[look.index]
        if self.trunk is not None:
            return self.trunk(rows, stream, look)
        if body is not None:
            start = self.entry(body, rows, stream)
            return bodies.run(body, stream, self.depth, look, start, checkpointing=self.checkpointing)
        embedded = self._noisy(stream)
        self.lend_matmul()
        if self.checkpointing != self._stock_checkpointing:
            stock.set_checkpointing(self.base, self.checkpointing)
            self._stock_checkpointing = self.checkpointing
        decoder, typed = self.family == "decoder", self._told_types()
        states = stock.run(self.base, stream, self.depth, embedded, decoder=decoder, typed=typed)
        return states if look is None else states[look.index]

    def entry(self, body: bodies.Body, rows: Sequence[Tokens], stream: Stream) -> tuple[int, Tensor]:
        """The first block that is to run, and what it reads [tokens, width]: kept, or made of the embeddings."""
        if self.kept is not None and stream.places is None:
            x = self.kept.take(rows, stream.filler, next(self.base.parameters()))
            if x is not None:
                return self.kept.blocks, x
        return 0, body.begin(stream, self._noisy(stream))

    def _noisy(self, stream: Stream) -> Tensor | None:
        """Embeddings [tokens, width] with noise, while the net learns with it."""
        if not (self.noise and self.net.training):
            return None
        net: Any = self.base
        return with_noise(net.get_input_embeddings()(stream.ids), stream, self.noise)

    def lend_matmul(self) -> None:
        """Have the fast layers of stock blocks multiply by this model's library."""
        for module in self.base.modules():
            if isinstance(module, FastLinear):
                module.matmul = self.matmul

    def _wide(self, stream: Stream, look: Look) -> bool:
        """Whether the last block would keep more for the tokens looked at than it saves: their attention to their own
        segment is not the flash kernel's, and keeps weights [heads, looked at, tokens of the segment]; nor is that to
        shared beginnings where scores are bent or a window may hide some."""
        heads = int(getattr(self.config, "num_attention_heads", 12))
        unlike = any(getattr(self.config, key, None) for key in ("attn_logit_softcapping", "sliding_window"))
        return 3 * 4 * heads * pairs(stream, look, beginnings=unlike) > _LOOK_BYTES

    def _told_types(self) -> bool:
        return int(getattr(self.config, "type_vocab_size", 0) or 0) > 1

    def padded(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """Ids and mask [rows, longest] of what is read, with its prompt; padded at the end."""
        return self.padded_bare(with_prompt(rows, self.prefix))

    def padded_bare(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """The same without the prompt: of what is written."""
        return padded(rows, self.text.tokenizer.pad_token_id or 0, self.device)
