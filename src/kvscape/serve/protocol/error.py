"""How OpenAI's API says that something is wrong."""

from kvscape.serve.protocol.strict import Answered


class ErrorDetail(Answered):
    """What, and about which field of the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Answered):
    """The body of every status of 400 and above."""

    error: ErrorDetail
