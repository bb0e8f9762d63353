"""BLIP-2 by its two heads, and InstructBLIP with FlanT5."""
