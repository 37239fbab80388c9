"""The one family of errors that a user of Manystack meets."""


class ManystackError(Exception):
    """An error whose text is a sentence that a user can act on. Commands end with exit code 1."""

    exit_code = 1


class UsageError(ManystackError):
    """Wrong usage or a bad topology: nothing was started. Commands end with exit code 2."""

    exit_code = 2
