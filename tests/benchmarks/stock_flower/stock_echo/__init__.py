"""A stock Flower app that moves a model through FedAvg rounds and trains nothing."""
