"""metamem: learn and study meta-memory, the guidelines that teach a frozen LLM to use what its memory retrieves."""

__version__ = "0.1.0"

import os as _os

if "METAMEM_ENGINE_OWNER" in _os.environ:
    # A process of an engine, which imports the program that started it before anything heavy: watched from here on.
    from metamem.backbones.engine.watchdog import watch as _watch

    _watch()
