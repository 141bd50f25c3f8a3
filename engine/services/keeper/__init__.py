"""The keeper: moves tasks whose time has come, and takes over from supervisors that fell silent."""
