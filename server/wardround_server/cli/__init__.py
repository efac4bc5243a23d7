"""Commands of this part; heavy imports happen inside the functions."""
