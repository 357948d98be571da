"""Figures and spans of alerts as people read them."""

from datetime import timedelta

_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def figure(value: float, unit: str) -> str:
    """A figure with its unit: ``12.5%``, ``$3.20``, ``840 ms``."""
    match unit:
        case "share":
            return f"{value * 100:.4g}%"
        case "usd":
            return f"${value:,.2f}" if abs(value) >= 1 or not value else f"${value:.3g}"
        case "":
            return f"{value:.6g}"
        case _:
            return f"{value:.4g} {unit.replace('_per_', '/')}"


def change_words(change: float) -> str:
    """What a relative change is called: ``rose by 50%``."""
    return f"{'rose' if change >= 0 else 'fell'} by {figure(abs(change), 'share')}"


def span_words(seconds: float) -> str:
    """A span in its largest whole unit: ``5 min``, ``3 d``."""
    return next((f"{seconds / size:.3g} {name}" for size, name in _SPANS if seconds >= size), f"{seconds:.0f} s")


def over(span: timedelta) -> str:
    """``in the last 5 min``."""
    return f"in the last {span_words(span.total_seconds())}"
