from pathlib import Path

import pytest
import torch

# Networks here are tiny: a second thread only waits, and collapses when the machine is shared.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers made by the original code; see the README beside them."""
    return Path(__file__).parent / "golden"
