"""Running models with PyTorch: packed batches for causal ones, padded batches for all others."""
