"""The command line: Hydra in front, arguments, help, explanations, launchers, sweeps."""
