"""``python -m t2v_eval`` is ``t2v-eval``."""

from t2v_eval.cli.main import main

if __name__ == "__main__":
    main()
