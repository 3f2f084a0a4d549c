"""What is measured of activations, and what it says.

To add a statistic that is always taken: a row of `STATISTICS` in snapshot.py,
read off what both executors fill, the device's (activation_statistics.py) and
the host's (backend/host_statistics.py). To add one that is taken on request:
a class derived from `OptionalStatistic` and its name in optional.py.
"""
