"""Noise that drowns the protection, then a denoiser that the trainer has trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary
from ..parameters import real_number, share

if TYPE_CHECKING:
    from ...learning import Learner

__all__ = ["FewDenoise", "NoiseDenoise"]

DEFAULT_LEVELS = 16.0


class NoiseDenoise(Adversary):
    """Adds Gaussian noise and takes it out with a small denoiser, in training and test pictures alike.

    The denoiser is trained for every victim on the pictures of its own arm: from more noise to what was given. No clean
    picture is needed, but the denoiser holds for typical whatever most of the pictures of the arm share. Noise that
    differs from picture to picture goes; a pattern that fills a class may be restored. AVATAR (arXiv 2303.08500) and
    ECLIPSE (arXiv 2406.15093) use diffusion models trained on clean pictures: see :class:`FewDenoise`.

    Args:
        parameter: standard deviation of the noise in levels of 255, 1 to 64; 16 where left out, twice the usual
            budget.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "noise-denoise"
    tier = "training"
    source = "after arXiv 2406.15093 (ECLIPSE), with a denoiser trained on the protected pictures themselves"
    description = "noise added, then a denoiser trained on the pictures (noise-denoise:32 sets the levels, 16)"
    cost = 2.0

    def __init__(self, parameter: str | None = None) -> None:
        self.levels = real_number(self.prefix, parameter, default=DEFAULT_LEVELS, least=1.0, most=64.0)

    @property
    def name(self) -> str:
        return f"noise-denoise:{self.levels:g}"

    @property
    def phrase(self) -> str:
        return "a trainer who drowns them in noise and denoises that"

    def learner(self) -> Learner:
        from ...learning import NoiseAndDenoise

        return NoiseAndDenoise(self.levels / 255.0)


class FewDenoise(Adversary):
    """The same with a denoiser trained on a few clean pictures, whose labels are not needed.

    ECLIPSE trains a diffusion model on 2,000 clean pictures of 50,000, adds noise once and takes it out in many steps.
    Here one small network takes it out in one step; the noise is that of ``noise-denoise``. The victim is trained on
    the purified pictures of the arm alone, never on the clean ones.

    Args:
        parameter: share of the training pictures that the trainer has clean, above 0 and at most 1, stratified; 0.04
            where left out.

    Raises:
        ConfigError: it is no such share.
    """

    prefix = "few-denoise"
    clean_share = 0.04
    tier = "prior"
    source = "after arXiv 2406.15093 (ECLIPSE), 4 % clean pictures; arXiv 2303.08500 (AVATAR)"
    description = "noise added, then a denoiser trained on a clean share (few-denoise:0.01 sets it, 0.04 if left out)"
    cost = 2.0

    def __init__(self, parameter: str | None = None) -> None:
        self.clean_share = share(self.prefix, parameter, default=self.clean_share)

    @property
    def name(self) -> str:
        return f"few-denoise:{self.clean_share:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who denoises them with a network trained on {100 * self.clean_share:g} % clean pictures"

    def learner(self) -> Learner:
        from ...learning import NoiseAndDenoise

        return NoiseAndDenoise(DEFAULT_LEVELS / 255.0, few=True)
