"""Settings: one frozen model, filled from four sources, validated once at the door.

    defaults  <  TOML file  <  GANGER_* environment  <  flags

`load_settings` is what everybody calls; it raises `InvalidSetting` or returns
the settings with the source of each value. Nothing else in the engine reads
the environment or a configuration file.
"""

from engine.config.fields import cores
from engine.config.model import Settings
from engine.config.pools import PoolSettings
from engine.config.sources import Loaded, find_config_file, load_settings, resolve

__all__ = ["Loaded", "PoolSettings", "Settings", "cores", "find_config_file", "load_settings", "resolve"]
