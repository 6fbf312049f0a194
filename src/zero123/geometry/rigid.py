"""Rigid poses: how one frame lies in another."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

_ORTHONORMAL_TOLERANCE = 1e-4  # float32 matrices written by other programs pass


@dataclass(frozen=True)
class Rigid:
    """A rotation and a translation that take points of one frame into another.

    Name a value by its two frames, target first, and inner names cancel:
    ``target_from_cond = target_from_world @ world_from_cond``.
    """

    rotation: Float64[Tensor, "3 3"]
    """Orthonormal, determinant +1."""
    translation: Float64[Tensor, "3"]
    """Scene units."""

    @classmethod
    def from_matrix(cls, matrix: Float64[Tensor, "rows 4"]) -> "Rigid":
        """Read ``[R|t]`` from a 3×4 or 4×4 matrix.

        Raises:
            ValueError: if it is no rigid motion (scaled, mirrored, not finite, other shape).
        """
        if matrix.shape[0] not in (3, 4):
            raise ValueError(f"a rigid pose is a 3x4 or 4x4 matrix, got {tuple(matrix.shape)}")
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("the pose matrix holds NaN or infinity")
        rotation, translation = matrix[:3, :3].clone(), matrix[:3, 3].clone()
        error = (rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max()
        determinant = torch.linalg.det(rotation)
        if float(error) > _ORTHONORMAL_TOLERANCE or float(determinant) < 0:
            raise ValueError(
                f"the pose matrix is not a rotation: R R^T is off by {float(error):.2g}, "
                f"det R = {float(determinant):.3g}; scaled or mirrored axes?"
            )
        return cls(rotation, translation)

    @property
    def matrix(self) -> Float64[Tensor, "3 4"]:
        """``[R|t]``."""
        return torch.cat([self.rotation, self.translation[:, None]], dim=1)

    @property
    def inverse(self) -> "Rigid":
        """The same relation read the other way: ``b_from_a.inverse`` is ``a_from_b``."""
        return Rigid(self.rotation.T, -self.rotation.T @ self.translation)

    def __matmul__(self, other: "Rigid") -> "Rigid":
        return Rigid(
            self.rotation @ other.rotation, self.rotation @ other.translation + self.translation
        )

    def apply(self, points: Float64[Tensor, "*n 3"]) -> Float64[Tensor, "*n 3"]:
        """Carry points into the other frame."""
        return points @ self.rotation.T + self.translation
