"""Memory systems of other packages, run with this project's models."""
