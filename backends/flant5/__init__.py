"""CLIP-FlanT5, the model of VQAScore, and what scorers with a T5 share."""
