"""The tests of hostile input once more, steered to inputs that reach other code than those before (atheris, libFuzzer).

`tests/property/test_hostile_*.py` draw their input from chance. Here the same tests draw it from bytes that libFuzzer
invents and changes, with an eye on which lines of the engine each of them reaches.
"""
