"""What a zip is: a trunk that all networks share, and what is left of each of them after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mergekit_nb.maths.matching import Zip


class Zipped(nn.Module):
    """Several networks zipped, in whole or up to a boundary.

    Attributes:
        trunk: the merged part; a whole network where all of it is zipped.
        heads: what is left of each network, in their order; none where all of it is zipped.
        boundaries: names of the spaces at which networks of this architecture can be cut.
        stop_at: the boundary up to which they are zipped, or None.
        zips: space -> how its features were matched.
    """

    def __init__(
        self,
        trunk: nn.Module,
        heads: Sequence[nn.Module],
        boundaries: tuple[str, ...],
        stop_at: str | None,
        zips: Mapping[str, Zip],
    ):
        super().__init__()
        self.trunk, self.heads = trunk, nn.ModuleList(heads)
        self.boundaries, self.stop_at, self.zips = boundaries, stop_at, dict(zips)

    @property
    def groups(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """Space -> for each merged feature the features it is made of; those of network n begin at n * width."""
        return {name: found.groups for name, found in self.zips.items()}

    def forward(self, *inputs: Tensor) -> Tensor | list[Tensor]:
        """The networks' one output, or a list of one per network where the zip is partial; the trunk runs once."""
        shared = self.trunk(*inputs)
        return [head(*shared) for head in self.heads] if self.heads else shared
