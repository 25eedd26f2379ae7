"""From a grid to finished runs and their CSVs."""
