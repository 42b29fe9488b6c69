"""The options of ``train``: from the command line, a YAML file and the run that is resumed."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from flaxnets.cli.common import UsageError, check_values, expand_paths, expand_user, parse
from flaxnets.cli.help import flag_of
from flaxnets.run_config import RunOptions
from flaxnets.settings import find_out_of_range

Options = RunOptions  # every command has its options under this name


def parse_options(arguments: Sequence[str], prog: str) -> RunOptions:
    """Parse a command line, and read the files that ``--config`` and ``--resume`` name.

    The command line overrides the YAML file, and the YAML file overrides the options of the resumed run.

    Raises:
        UsageError: for an unknown option, a value of a wrong type or out of range, or a file that cannot be read.

    >>> parse_options(["--arch", "mlp", "--epochs", "3"], "train.py").epochs
    3
    """
    files = _files(arguments)
    configured = {} if files.config is None else _read_yaml(files.config)
    resumed = files.resume or (configured.get("resume") if isinstance(configured, dict) else None)
    options = RunOptions()
    if isinstance(resumed, str) and resumed != "auto":
        options = _options_of_run(resumed)
    if files.config is not None:
        options = _with_values(options, configured, f"--config {files.config}")
    options = parse(RunOptions, arguments, prog, options)
    _check_augmentation(options)
    return options


def _files(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    parser.add_argument("--resume")
    try:
        return parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError:  # an option without a value, which is an error of the real parser
        return argparse.Namespace(config=None, resume=None)


def _read_yaml(path: str) -> Any:
    try:
        return yaml.safe_load(Path(expand_user(path)).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UsageError(f"--config {path}: {reason}") from error


def _options_of_run(path: str) -> RunOptions:
    from flaxnets.training import RunError, read_config

    try:
        options = read_config(expand_user(path)).options
    except RunError as error:
        raise UsageError(f"--resume {path}: {error}") from error
    check_values(options)
    return options


def _with_values(options: RunOptions, document: Any, where: str) -> RunOptions:
    try:
        options = expand_paths(options.with_values(document))
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    check_values(options)
    return options


def _check_augmentation(options: RunOptions) -> None:
    """Check the options of the augmentation, which declares their ranges itself."""
    from flaxnets.data import Augmentation

    wrong = find_out_of_range(Augmentation, options)
    if wrong:
        raise UsageError(f"{flag_of(wrong.name)} must be {wrong.expected}, got {wrong.value}")
