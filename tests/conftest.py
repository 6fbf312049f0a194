from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers made by the original code; see the README beside them."""
    return Path(__file__).parent / "golden"
