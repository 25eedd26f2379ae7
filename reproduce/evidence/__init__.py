"""When a number counts: keys of what a run does, versions and their fingerprints, seals, the store, the CSVs."""
