"""The one exception that this package raises on purpose."""


class DelaywatchError(Exception):
    """Something that a person can mend: one sentence that names the thing and the way out."""
