"""From grids, files of TOML, to the list of runs."""
