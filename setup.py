"""Packages of the wheel: models/, conf/ and the published numbers become parts of rrsis_bench."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["rrsis_bench", "rrsis_bench.*"]),
        "rrsis_bench.models",
        *(f"rrsis_bench.models.{name}" for name in find_packages("models")),
        "rrsis_bench.conf",
        "rrsis_bench.leaderboards.published",
    ],
    package_dir={
        "rrsis_bench.models": "models",
        "rrsis_bench.conf": "conf",
        "rrsis_bench.leaderboards.published": "leaderboards/published",
    },
)
