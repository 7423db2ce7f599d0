"""The programs: training, evaluation, and what reads the runs that these leave."""
