"""The type checker of test_imports.py. It accepts an int where the annotation says float, as Python's typing does."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
