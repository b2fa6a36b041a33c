"""The decoder of a causal language model: all of it but the output layer."""

import inspect

from torch import nn

from hylorada.errors import HyLoRADAError


def decoder_of(lm: nn.Module) -> nn.Module:
    """Return the module that maps token ids to hidden states; of a multimodal model its language model.

    Raises:
        HyLoRADAError: the model does not tell it, nor does one of its children hold the token embedding.
    """
    decoder = lm.get_decoder()
    if decoder is not lm:
        return decoder
    embedding = lm.get_input_embeddings()  # Llama 4 answers with itself
    for child in lm.children():
        if child is not embedding and embedding in child.modules():
            return child
    raise HyLoRADAError(f"the decoder of this {type(lm).__name__} is not found; use another causal language model.")


def takes_positions(decoder: nn.Module) -> bool:
    """Tell whether a decoder can be given position_ids, from 0.

    Those of Bloom and MPT count nothing; those of RoBERTa's kin count for themselves, from after their padding index.
    """
    tables = [m for name, m in decoder.named_modules() if isinstance(m, nn.Embedding) and "position" in name]
    counts_for_itself = any(table.padding_idx is not None for table in tables)
    return "position_ids" in inspect.signature(decoder.forward).parameters and not counts_for_itself
