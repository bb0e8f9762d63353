"""Linear regression of scores: partial correlations, and differences adjusted for covariates.

| module | holds |
|---|---|
| `partial_correlation` | the correlation of two variables at equal values of others |
| `paired_differences` | the part of a mean paired difference that covariates account for |
"""
