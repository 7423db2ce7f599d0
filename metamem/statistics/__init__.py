"""Figures over verdicts: accuracies by type, strict and valid-only."""
