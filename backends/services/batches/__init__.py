"""Batch APIs of providers: `cells.py` scores with those of `openai.py` and `gemini.py`."""
