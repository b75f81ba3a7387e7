//! The decoder: configuration, weights, forward pass, decoding, tokenizer and chat template.
