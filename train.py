"""Trains a registered network: ``python train.py --arch densenet``."""

import sys

from flaxnets.cli.command import begin_program, run
from flaxnets.cli.train import main

if __name__ == "__main__":
    begin_program()
    sys.exit(run(main, sys.argv[1:], "train.py"))
