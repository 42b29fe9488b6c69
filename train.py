"""Trains a registered network: ``python train.py --arch densenet``."""

import sys

from flaxnets.cli.command import run
from flaxnets.cli.memory import keep_memory
from flaxnets.cli.train import main

if __name__ == "__main__":
    keep_memory()
    sys.exit(run(main, sys.argv[1:], "train.py"))
