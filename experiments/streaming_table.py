"""Averages of evaluations on streamed data by source and competency, beside the memory's size, as CSV.

python experiments/streaming_table.py outputs/conflict_resolution/*/result.json
"""

import csv
import json
import sys
from pathlib import Path

from metamem.statistics.streams import rows_of

if __name__ == "__main__":
    paths = list(dict.fromkeys(Path(name).resolve() for name in sys.argv[1:]))
    if not paths:
        sys.exit("usage: streaming_table.py RESULT.json ...")
    rows = rows_of({path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(sys.stdout, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
