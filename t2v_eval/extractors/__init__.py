"""Extractors: networks that turn images into rows of features, for distances between sets.

| module | holds |
|---|---|
| `extractor` | the interface, and networks in batches with decoding threads |
| `embeddings` | image embeddings of a dual encoder, under the name of its card |
| `inception` | Inception v3 with the weights of FID |
| `resizing` | the resizers of clean-fid, pytorch-fid and TensorFlow 1 |
| `vision` | DINOv2, and any network of timm |
| `names` | extractors by name |
"""
