"""The page: a photo, a camera to drag, views, a film, an object, for several people at once."""
