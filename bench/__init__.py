"""What Ganger costs and how fast it is: one file for each question. `python -m bench` lists them."""
