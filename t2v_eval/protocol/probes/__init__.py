"""Probes: ways in which a score can be raised without a better image, each looked for on its own.

| module | probe |
|---|---|
| `prompt_length` | the score follows the length of the prompt |
| `inflation` | words such as "masterpiece" in the prompt raise the score |
| `covariates`, `image_edits` | the difference goes with saturation, contrast, sharpness or detail |
| `prompt_floor` | the score does not need its prompt, or does not need its image |
| `duplicates` | images of different prompts are the same |
| `circularity` | the scorer is of a family that the generator was trained or guided with |
| `inputs`, `names` | what a probe gets and returns; the names of probes |
| `measures`, `rescoring`, `prompt_texts` | images measured, images scored anew with other prompts |
| `summaries` | intervals and words of the paragraphs |
| `image_statistics`, `image_hashes` | numbers of one image |
| `table`, `charts` | all probes, and their charts |
"""
