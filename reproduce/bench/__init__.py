"""How fast the library is: against a straightforward implementation, against the limit of the machine, and as it grows.

Parts, each of which writes its CSV into `results/bench` (`bench_gpu` on a GPU), in one process and one run:

a  iteration.csv: seconds of an iteration of each full-batch AM method against its twin in `tests/twins`
b  epoch.csv: seconds of an epoch of each mini-batch method against the usual loop: DataLoader, nn.Module, torch.optim,
   the same loop over tensors in memory, or per-layer autograd where torch.optim has no such method
c  stacking.csv: R stacked runs against R runs in a row
d  growth.csv, exponents.csv: seconds against rows, width, depth and runs, and log-log slopes with 95 % intervals
e  limit.csv: the FLOPs and bytes that a step needs at least, over the machine's measured rates, as a share of its time
f  memory.csv: peak memory of a run in a process of its own against `am.machine.run_bytes`
g  precision.csv: iterates in float32 against float64
h  graphs.csv, on a GPU alone: mini-batch steps replayed as a CUDA graph (`am.graphs`) against eager ones
i  profile.csv: which operations the seconds of an iteration or a mini-batch step go to, by torch.profiler

targets.csv judges what is there. Two things that are compared are timed in alternation, A B A B, after a warm-up, with
the device synchronised; a ratio is the median over neighbours with its quartiles. On a CPU both sides run with an
allocator that keeps its memory, and with one thread, as the suite trains; but with all cores where a user's loop or a
row of runs, which would have them, is compared (b and c). The settings are the methods' defaults.
"""
