"""Which networks are known to answer the same whatever is shared: those that tests hold.

A card says in words against what its numbers were checked; that decides nothing here.
"""

from __future__ import annotations

from typing import Any

# The class of a network, and the kind of its language model.
TESTED = frozenset(
    {
        ("Gemma3ForConditionalGeneration", "gemma3_text"),
        ("Gemma4ForConditionalGeneration", "gemma4_text"),
        ("Gemma4UnifiedForConditionalGeneration", "gemma4_unified_text"),
        ("InternVLForConditionalGeneration", "llama"),
        ("InternVLForConditionalGeneration", "phi3"),
        ("InternVLForConditionalGeneration", "qwen2"),
        ("LlavaForConditionalGeneration", "llama"),
        ("LlavaNextForConditionalGeneration", "llama"),
        ("LlavaOnevisionForConditionalGeneration", "qwen2"),
        ("MllamaForConditionalGeneration", "mllama_text_model"),
        ("Molmo2ForConditionalGeneration", "molmo2_text"),
        ("PaliGemmaForConditionalGeneration", "gemma"),
        ("PerceptionLMForConditionalGeneration", "llama"),
        ("Qwen2VLForConditionalGeneration", "qwen2_vl_text"),
        ("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl_text"),
        ("Qwen3OmniMoeThinkerForConditionalGeneration", "qwen3_omni_moe_text"),
        ("Qwen3VLForConditionalGeneration", "qwen3_vl_text"),
        ("Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe_text"),
        ("Qwen3_5ForConditionalGeneration", "qwen3_5_text"),
        ("SmolVLMForConditionalGeneration", "llama"),
        ("PooledLlavaOnevisionForConditionalGeneration", "qwen2"),
    }
)


def is_tested(network: Any, config: Any) -> bool:
    """Whether tests hold a network of this class with this kind of language model."""
    return (type(network).__name__, config.get_text_config().model_type) in TESTED
