"""Names of pretrained networks, checked when they are given and found when they are needed."""

from __future__ import annotations

from ....errors import ConfigError, SetupError

__all__ = ["DEFAULT_NETWORK", "Pretrained"]

DEFAULT_NETWORK = "efficientnet-lite0"


class Pretrained:
    """A network by the name of its surrogate.

    Args:
        name: as in :func:`bitterant.surrogates.create_surrogate`.

    Raises:
        UnknownNameError: no such network.
    """

    def __init__(self, name: str) -> None:
        from ....surrogates import check_surrogate  # loads torch; listing adversaries needs none

        self.name = name
        self._missing: SetupError | None = None
        try:
            check_surrogate(name)
        except SetupError as error:  # a package is missing: told when the adversary is tried, so presets can name it
            self._missing = error

    @property
    def title(self) -> str:
        """The name without the path of its weights."""
        return self.name.partition("@")[0]

    def source(self, resolution: int) -> str:
        """Where the weights come from; builds the network once.

        Raises:
            SetupError: weights, or a package, are not on this machine.
            ConfigError: the network has random weights, which are no prior knowledge, or cannot take this resolution.
        """
        from ....surrogates import create_surrogate

        if self._missing is not None:
            raise self._missing
        source = create_surrogate(self.name, num_classes=2, resolution=resolution, seed=0).source
        if "random" in source.split("+"):
            raise ConfigError(
                f"{self.name} has random weights here, so it would say nothing about a pretrained model. Name "
                "efficientnet-lite0, a network with a tag (resnet18/IMAGENET1K_V1) or with a file (NAME@FILE)."
            )
        return source
