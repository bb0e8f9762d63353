"""Dual encoders: CLIP, OpenCLIP, SigLIP, LongCLIP, and the published conventions of CLIPScore."""
