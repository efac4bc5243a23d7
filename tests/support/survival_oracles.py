"""Survival metrics from the records themselves, by their definitions, slowly."""

import numpy as np


def harrell(times, events, risks):
    """Harrell's C: of pairs in which the earlier one had the event, who had the higher risk."""
    earlier = (times[:, None] < times[None, :]) & (events[:, None] == 1)
    earlier |= (times[:, None] == times[None, :]) & (events[:, None] == 1) & (events[None, :] == 0)
    won = risks[:, None] > risks[None, :]
    tied = risks[:, None] == risks[None, :]
    return (earlier & won).sum() / earlier.sum() + 0.5 * (earlier & tied).sum() / earlier.sum()


def product_limit(times, events, at):
    """Kaplan and Meier's S(at); deaths come before censorings of the same time."""
    survival = 1.0
    for time in np.unique(times[(events == 1) & (times <= at)]):
        dead = ((times == time) & (events == 1)).sum()
        survival *= 1 - dead / (times >= time).sum()
    return survival


def followed(times, events, at, *, before=False):
    """G(at), or G(at-), for one or many times: the curve of being censored.

    Deaths of the same time are gone by then.
    """
    censored = np.unique(times[events == 0])
    lost = np.array([((times == time) & (events == 0)).sum() for time in censored])
    left = np.array(
        [((times > time) | ((times == time) & (events == 0))).sum() for time in censored]
    )
    curve = np.append(1.0, np.cumprod(1 - lost / np.maximum(left, 1)))
    return curve[np.searchsorted(censored, at, side="left" if before else "right")]


def ipcw_brier(times, events, risks, horizon):
    """Graf et al. 1999, equation 3; who is followed up to the horizon counts as alive there."""
    alive, died = times >= horizon, (times < horizon) & (events == 1)
    of_alive = (risks[alive] ** 2 / followed(times, events, horizon, before=True)).sum()
    of_died = ((1 - risks[died]) ** 2 / followed(times, events, times[died], before=True)).sum()
    return (of_alive + of_died) / len(times)


def cohort(seed, count, *, horizon=400.0, strength=1.0):
    """Times, events and risks until three edges of `count` simulated patients."""
    random = np.random.default_rng(seed)
    feature = random.normal(size=count)
    death = random.exponential(300 * np.exp(-strength * feature))
    lost = random.exponential(500, count)
    times, events = np.minimum(death, lost), (death < lost).astype(float)
    edges = np.array([100.0, 200.0, horizon])
    guess = np.exp(feature + random.normal(0, 0.5, count)) / 300
    risks = 1 - np.exp(-guess[:, None] * edges)
    return times, events, risks
