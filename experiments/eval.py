"""Evaluate meta-memories. `python experiments/eval.py --help` lists every choice."""

from metamem.cli.main import evaluate

if __name__ == "__main__":
    evaluate()
