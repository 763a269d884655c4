"""The one exception type whose message is written for a person."""


class UserError(Exception):
    """Something the user can mend: the message says what, which file or field, and what to do.

    Entry points print it without a traceback and leave with exit code 2.
    """
