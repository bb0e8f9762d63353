"""The backends that come with the library: a module and a card (TOML) each."""

if __name__ != "t2v_eval.backends":
    raise ImportError("import it as t2v_eval.backends: a bare name would load every module twice")
