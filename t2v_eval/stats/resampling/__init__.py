"""Many resamples at once.

| module | contents |
|---|---|
| `draws` | how many copies of each unit a resample holds, drawn once for all scorers |
| `products` | sums over items, runs and pairs, as products of matrices |
| `resamples` | what the agreement metrics of all resamples need |
| `joined` | combined statistics |
"""
