"""The one error of this folder."""


class ImageError(ValueError):
    """A picture cannot be used; the message is one sentence for the person who gave it."""
