"""Warning filters for the whole process."""

import re
import warnings


def add_ignore_filter(message: str = "", category: type[Warning] = Warning, module: str = "") -> None:
    """Ignore a warning in the whole process and all its threads; do nothing if that filter is active.

    ``warnings.catch_warnings`` would be local, but it is not safe in threads, and a warning may come long after the
    call that causes it.

    Args:
        message: regular expression for the start of the text.
        category: class of the warning.
        module: regular expression for the start of the name of the module that warns.

    >>> with warnings.catch_warnings():
    ...     add_ignore_filter("no such warning")
    ...     filters = list(warnings.filters)
    ...     add_ignore_filter("no such warning")
    ...     warnings.filters == filters
    True
    """
    # The entry that filterwarnings makes of these arguments.
    texts = re.compile(message, re.IGNORECASE) if message else None, re.compile(module) if module else None
    if ("ignore", texts[0], category, texts[1], 0) not in warnings.filters:
        warnings.filterwarnings("ignore", message, category, module)
