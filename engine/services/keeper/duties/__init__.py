"""The keeper's work, a class for each kind of it. `engine.services.keeper.duty_list` puts them into their order."""
