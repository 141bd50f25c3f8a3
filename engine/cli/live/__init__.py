"""The parts of `ganger top`: what it shows (`board`) and how (`screen`), its keys, and the calls it waits for."""
