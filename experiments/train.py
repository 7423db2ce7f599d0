"""Learn a meta-memory. `python experiments/train.py --help` lists every choice."""

from metamem.cli.main import train

if __name__ == "__main__":
    train()
