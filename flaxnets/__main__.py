"""Run the command ``flaxnets`` as ``python -m flaxnets``."""

import sys

from flaxnets.cli import main

if __name__ == "__main__":
    sys.exit(main())
