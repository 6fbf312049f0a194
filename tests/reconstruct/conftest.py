import pytest
from scenes import SEED, SMALL, mesh_views

from zero123.reconstruct import Reconstruction, from_views


@pytest.fixture(scope="session")
def made() -> Reconstruction:
    """A made-up object, from its true views."""
    return from_views(mesh_views(SEED), SMALL)
