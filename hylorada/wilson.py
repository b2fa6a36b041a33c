"""Wilson's interval of a share (E. B. Wilson, 1927)."""

from statistics import NormalDist

from hylorada.errors import HyLoRADAError


def wilson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval's low and high end for p = hits / trials, with z the normal quantile.

        (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    Raises HyLoRADAError unless 0 <= hits <= trials, with one trial or more, and 0 < confidence < 1.
    """
    if not 0 <= hits <= trials or trials < 1 or not 0 < confidence < 1:
        raise HyLoRADAError(f"{hits} hits in {trials} trials at confidence {confidence} have no interval")
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), hits / trials
    middle = share + z**2 / (2 * trials)
    half = z * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    low, high = ((middle + side * half) / (1 + z**2 / trials) for side in (-1, 1))
    return (0.0 if hits == 0 else low), (1.0 if hits == trials else high)  # exact at the ends, where halves cancel
