"""Files to start a set-up from: the commented settings, pinned versions. Installed as `ganger_config`."""
