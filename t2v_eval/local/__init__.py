"""Scorers whose model runs on this machine: decoding, batches, memory, devices and weights.

| module | holds |
|---|---|
| `base` | `LocalScorer`: what all of them share |
| `dual_encoder`, `pair_scorer`, `prefix_sharing` | the base classes for backends |
| `similarity` | image-image, text-text and directional similarity of dual encoders |
| `batching`, `state_cache` | adaptive batches, decoding threads, cached image features |
| `upload` | copies to a CUDA device beside the model |
| `devices`, `precision` | devices, dtypes and free memory |
| `weights`, `checkpoint_files` | find, check, read and fingerprint checkpoints |
"""
