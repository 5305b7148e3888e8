"""The one error for what a user gave and we cannot use."""


class InputError(ValueError):
    """A file, a folder or an argument cannot be used; the message names it and the remedy."""


def first_few(names: list[str], shown: int = 5) -> str:
    """Return the first of many names in one line, and how many more there are."""
    more = f", … {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
