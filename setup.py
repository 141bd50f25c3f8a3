"""Names the packages; everything else is in pyproject.toml.

Two folders are installed under other names than they have here: `handlers` and
`config` are names that every second project uses, and must stay free for it.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["engine", "engine.*"]), "ganger_handlers", "ganger_config"],
    package_dir={"ganger_handlers": "handlers", "ganger_config": "config"},
)
