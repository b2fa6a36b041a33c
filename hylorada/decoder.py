"""The decoder of a causal language model: all of it but the output layer."""

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
