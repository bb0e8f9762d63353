"""Statistics: agreement with human ratings, confidence intervals and permutation tests.

Pure functions of NumPy arrays; nothing here knows of scorers, images or files.

| module | holds |
|---|---|
| `metrics`, `ranking` | agreement of scores with ratings, Winoground, preferences, best of n |
| `agreement_metrics` | the metrics that reports know by name, and `register_metric` |
| `averages`, `logistic_fit`, `separation` | averages over parts, fits before PLCC, K-S of nodes |
| `raters` | Krippendorff's alpha, and one rater against the others |
| `bootstrap`, `permutation` | confidence intervals; tests, Holm's correction |
| `ratings` | ratings from pairs: battles, Bradley-Terry, Elo |
| `power` | sample sizes, detectable differences, limits of rates |
| `prediction_powered` | mean ratings of all items from ratings of some and scores of all |
| `decisions` | decisions of people and of a scorer on pairs of generators |
| `distances` | FID, KID and the like, of feature matrices |
| `regression` | partial correlations, differences adjusted for covariates |
| `pairwise`, `resampled_metrics` | their engines: counts of pairs, metrics of resamples |
| `resampling` | many resamples at once |
"""
