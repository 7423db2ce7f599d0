"""Sample, score and store groups of Mem-α episodes for training a builder; shows the reward under the paper's weights.

    python experiments/memalpha_episodes.py --out episodes.parquet --group 8 \
        dataset=memalpha dataset.path=train.parquet part=all split=all memory=memalpha memory.temperature=1.0 \
        retriever=memalpha backbone=openai backbone.base_url=... backbone.model=...

What follows the options is as for eval.py; the weights are `evaluator.memalpha_reward.beta` and `.gamma`.
"""

import sys

from metamem.cli.memalpha_episodes import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
