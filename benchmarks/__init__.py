"""Measurements that are no tests: time, memory, parity with the code of 2022. README.md has them.

Nothing imports them but tests; they import whatever they measure.
"""
