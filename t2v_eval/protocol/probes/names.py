"""The names of the probes."""

PROMPT_LENGTH = "prompt-length"
INFLATION = "inflation"
COVARIATES = "covariates"
SHUFFLED = "shuffled-prompts"
TEXT_ALONE = "text-alone"
DUPLICATES = "duplicates"
CIRCULARITY = "circularity"
