"""The module lane: networks beyond the multilayer perceptron, one at a time, by optimizers of `torch.optim`'s kind.

`networks` builds them, `optimizers` says which method trains them and with what, `training` gives them to the one loop
of `am.training`.
"""
