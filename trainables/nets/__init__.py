"""Networks: encoders, heads, decoders."""
