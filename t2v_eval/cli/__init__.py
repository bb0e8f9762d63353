"""The command line ``t2v-eval``."""
