"""What fingerprints are of: for every component of a run, named cases of a few numbers each.

`methods` steps them on a tiny problem, `parts` takes activations, initialisations, data, evaluation and the training
loop by themselves, and `modules` the networks and their optimizers. They count in float64, on problems on which
rounding stays rounding: no ties, nothing at zero. `reproduce.run.cases` has those of whole lanes.
"""
