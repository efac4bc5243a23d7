"""Flower without telemetry, update check, installer or log; called before flwr is imported."""

import logging
import os

SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_LOG_LEVEL": "CRITICAL",
}
"""What Flower 1.41 reads from the environment, most of it when it is first imported."""


def quiet_flower() -> None:
    """Set Flower's environment, over whatever the user has set, and mute its log.

    Telemetry tells a foreign server who trains what, and Flower's log prints other people's error
    texts: both are off, and there is no option to turn them on.

    >>> quiet_flower()
    >>> os.environ["FLWR_TELEMETRY_ENABLED"]
    '0'
    """
    os.environ.update(SETTINGS)
    # Not a level: flwr.supercore.logger sets its own when it is imported later.
    logging.getLogger("flwr").disabled = True
