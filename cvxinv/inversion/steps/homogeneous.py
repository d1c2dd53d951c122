"""Positively homogeneous generators, G(t z) = t G(z) for t > 0: what theories of random ReLU layers are said of."""

from ...generator.abstract import AbstractGenerator


def beyond(G: AbstractGenerator) -> str:
    """What of a generator is not ReLU or LeakyReLU layers without biases, in words; "" where there is nothing."""
    if not G.layers:
        return G.kind
    smooth = next((layer.activation for layer in G.layers if layer.activation.slopes is None), None)
    biased = "biases" if any(bool(layer.b.any()) for layer in G.layers) else ""
    return " and ".join(word for word in (biased, "" if smooth is None else type(smooth).__name__) if word)
