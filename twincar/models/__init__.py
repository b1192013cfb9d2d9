"""Networks, model files and the engines that run them."""
