"""From rows of runs to intervals, tests, ranks and verdicts; it trains and draws nothing.

The protocol, each line held by a test:
 1. The seed is the unit of replication: one row per (setting, seed). Two rows of one seed in one cell are refused,
    never counted as two.
 2. Methods share seeds, so comparisons are paired by seed. Unpaired seeds are left out of a comparison and counted.
 3. A run that diverged or failed is kept: it scores chance level as an accuracy and infinity as a cost. A method all
    of whose runs did so never ranks first, is never in bold and never carries a claim.
 4. A missed target costs infinity. A run that reached the target and diverged afterwards missed it.
 5. One seed gives no interval (NaN), not one of width zero; fewer than MIN_SEEDS pairs give no test.
 6. Numbers of a method depend on its own runs alone (and, in a comparison, on its comparator's): neither other methods
    nor the order of the rows change them. Ranks, profiles and ties with the best are relative by definition.
 7. Tests are two-sided at ALPHA, with Holm's correction over the family: the groups (data sets) compared with one
    comparator. "Better than every comparator" is an intersection of hypotheses and needs no further correction. "The
    opposite", worse than any of them, is a union: it needs p < ALPHA after Holm over the comparators, too. Bold type
    for ties with the best goes by the uncorrected test, which grants fewer of them.
 8. Which test is decided by the number of seeds, before any value is seen: the exact sign-flip permutation test where
    its smallest possible p, 2^(1-n), times the size of the family is within ALPHA; the paired t-test where it is not
    (five seeds: 1/16, so no exact paired test can reach 5 %).
 9. The interval of a mean on one data set is Student's. On normal samples of 3, 5, 10 its nominal 95 % covers .95,
    the percentile bootstrap's .75, .84, .90, which is given beside it; a median ratio has the bootstrap's alone,
    and none for fewer than five seeds: even their whole range holds the median of three with probability .75.
10. Measures of stability are relative to a method's own best, so a method that learns nowhere has the worst of each,
    however little it varies: no usable step size, no survival where training did not finish below its first loss,
    and the largest distance between seeds.

11. A claim is judged under each profile by itself; that two profiles agree says that their verdicts are the same word.
12. No outcome may contradict what the figures draw: `reproduce.judge.check` compares each with the medians, or with the
    curve of every run, and `make check` fails with what it found.

Frames are `runs.csv` and `curves.csv` as `reproduce.run.collect` writes them; accuracies are fractions.
"""
