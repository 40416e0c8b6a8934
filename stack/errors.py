"""The one exception that this package raises on purpose."""


class StackError(Exception):
    """Something that a person can mend: one line that names the thing and the way out, without any secret."""
