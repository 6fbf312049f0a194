"""Files <-> [0, 1] tensors with alpha; cutting out, centring, squaring; sheets and films."""

from zero123.images.errors import ImageError
from zero123.images.film import animate, check_film
from zero123.images.framing import (
    ORIGINAL_FILL,
    TRAINING_FILL,
    FramedPhoto,
    Framing,
    FramingWarning,
    frame,
)
from zero123.images.matting import REMBG_MODEL, MatteMethod, MatteWarning, matte
from zero123.images.plot import plot_losses
from zero123.images.read import DEFAULT_LIMITS, Limits, Photo, list_pictures, read_image
from zero123.images.seats import plot_seats
from zero123.images.sheet import contact_sheet
from zero123.images.square import Picture, square_picture
from zero123.images.write import save_picture, to_pil, to_u8, write_text

__all__ = [
    "DEFAULT_LIMITS",
    "ORIGINAL_FILL",
    "REMBG_MODEL",
    "TRAINING_FILL",
    "FramedPhoto",
    "Framing",
    "FramingWarning",
    "ImageError",
    "Limits",
    "MatteMethod",
    "MatteWarning",
    "Photo",
    "Picture",
    "animate",
    "check_film",
    "contact_sheet",
    "frame",
    "list_pictures",
    "matte",
    "plot_losses",
    "plot_seats",
    "read_image",
    "save_picture",
    "square_picture",
    "to_pil",
    "to_u8",
    "write_text",
]
