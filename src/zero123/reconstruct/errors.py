"""The one error of this folder."""


class ReconstructionError(ValueError):
    """No object can be made; the message is one sentence for the person who asked."""
