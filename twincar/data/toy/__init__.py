"""The drawn data set: 24 made-up cars in twelve pairs of twins, and pictures without a car."""
