"""Names of features lead to networks."""

from t2v_eval.extractors import embeddings
from t2v_eval.extractors.names import load_extractor
from t2v_eval.registry import models


def test_clip_is_the_network_of_cmmd(monkeypatch):
    loaded = []
    monkeypatch.setattr(
        embeddings, "EmbeddingExtractor", lambda name, **options: loaded.append((name, options))
    )
    load_extractor("clip", device="cpu", checkpoint="weights.pt")
    ((name, options),) = loaded
    assert options == {"device": "cpu", "checkpoint": "weights.pt"}
    assert models.card(name).kind == "clip"
    assert name.endswith("ViT-L-14-336"), "Jayasumana et al. 2024, section 4"
