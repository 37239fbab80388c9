"""The one family of errors that a user of Manystack meets, and the exit codes of commands."""

INTERRUPTED = 130
"""The exit code after Ctrl-C that is no ordinary end: 128 and the number of the signal, as in shells."""


class ManystackError(Exception):
    """An error whose text is a sentence that a user can act on. Commands end with exit code 1."""

    exit_code = 1


class UsageError(ManystackError):
    """Wrong usage or a bad topology: nothing was started. Commands end with exit code 2."""

    exit_code = 2
