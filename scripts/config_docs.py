"""Write docs/config.md from the registered components, or with `--check` exit with 1 when it is not up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from metamem.cli.help import reference_page
from metamem.cli.hydra_bridge import export

PAGE = Path(__file__).resolve().parents[1] / "docs" / "config.md"


def main() -> int:
    """Write or check the page."""
    export()
    text = reference_page()
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/config.md does not fit the components: run make docs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
