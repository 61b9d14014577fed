"""Whether LoRA can train a base model, from its small files: `python -m align.trainable DIR` prints JSON."""

import sys

from align.training.trainable import main

if __name__ == "__main__":
    sys.exit(main())
