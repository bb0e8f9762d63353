"""Distances between sets of images, as pure functions on their feature matrices.

A row of a feature matrix is an image; `reference` are the images that a generator should match, and
`images` those that it made. Every value is computed in float64.

| module | holds |
|---|---|
| `features` | checks of feature matrices, and their blocks |
| `frechet` | FID, FID-infinity, and the bias of FID |
| `kernel` | KID, CMMD, and the maximum mean discrepancy under any kernel |
| `manifold` | precision, recall, density, coverage, realism |
| `memorisation` | AuthPct and MiFID: how many images are copies |
| `diversity` | Vendi |
| `sliced` | MIND: sliced Wasserstein distance |
| `inception` | inception score, of logits |
| `extrapolation` | the value at infinitely many images |
| `resampling` | bootstrap intervals over rows |
| `neighbours` | nearest rows, in blocks |
"""
