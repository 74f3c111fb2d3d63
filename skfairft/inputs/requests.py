"""What metadata routing was told of an estimator's methods, as plain values and back."""

from __future__ import annotations

from typing import Any

from sklearn.utils.metadata_routing import get_routing_for_object

__all__ = ["requests_of", "set_requests"]

_METHODS = (
    *("fit", "score", "predict", "predict_proba", "predict_log_proba", "decision_function"),
    "transform",
)


def requests_of(estimator: Any) -> dict[str, dict[str, Any]]:
    """Return what each method asks for by name; nothing if that was never set.

    Examples
    --------
    >>> import sklearn
    >>> from sklearn.linear_model import LogisticRegression
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     model = LogisticRegression().set_fit_request(sample_weight=True)
    >>> requests_of(model)["fit"], requests_of(LogisticRegression())
    ({'sample_weight': True}, {})
    """
    if "_metadata_request" not in vars(estimator):
        return {}
    routing = get_routing_for_object(estimator)
    asked = {method: dict(getattr(routing, method).requests) for method in _METHODS}
    return {method: names for method, names in asked.items() if names}


def set_requests(estimator: Any, requests: dict[str, dict[str, Any]]) -> None:
    """Have an estimator ask for what `requests_of` returned; anything else is a ValueError."""
    if not requests:
        return
    routing = get_routing_for_object(estimator)
    for method, asked in requests.items():
        if method not in _METHODS:
            raise ValueError(f"No method {method!r} takes metadata.")
        for name, alias in asked.items():
            getattr(routing, method).add_request(param=str(name), alias=alias)
    estimator._metadata_request = routing
