"""Studies: sweeps whose jobs answer one question together, with the table, figure and report that say the answer.

In: the jobs of a sweep, as its ledger recorded them. Out: files in the sweep's folder. The studies' options are in
`conf/experiment`, what they are for in experiments/README.md.
"""
