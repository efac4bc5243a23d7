"""The hospital's durable record of the privacy spent on a dataset, over all studies, for ever."""

from wardround_client.ledger.book import Ledger
from wardround_client.ledger.budget import RunSpent
from wardround_client.ledger.releases import Purpose, Release, ReservationId

__all__ = ["Ledger", "Purpose", "Release", "ReservationId", "RunSpent"]
