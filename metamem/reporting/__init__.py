"""Reports and figures: runs and sweeps as files that people read.

In: a run's directory, or a sweep's table. Out: `report.html` (one file that needs nothing else), figures as PNG and
PDF, tables as Markdown and LaTeX, a CSV of verdicts for human audit.
"""
