"""The experiments: grids, the store of finished runs, CSVs, figures. Gradients and tensors are `am`'s."""
