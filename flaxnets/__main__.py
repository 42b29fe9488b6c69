"""``python -m flaxnets``, which is the command ``flaxnets``."""

import sys

from flaxnets.cli import main

if __name__ == "__main__":
    sys.exit(main())
