"""Decision support for one patient: a calibrated risk with its doubt, or no answer at all."""
