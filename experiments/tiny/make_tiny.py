"""Write the tiny checkpoint of `backbone=tiny` into a folder. `python experiments/tiny/make_tiny.py FOLDER`"""

import sys
from pathlib import Path

from metamem.backbones.engine.tiny_checkpoint import write

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_tiny.py FOLDER (a new one)")
    print(write(Path(sys.argv[1])))
