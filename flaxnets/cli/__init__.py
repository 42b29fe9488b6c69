"""The command ``flaxnets``, one file a verb; each has its ``Options`` and a ``main(arguments, prog)``."""

from flaxnets.cli.command import main as main
