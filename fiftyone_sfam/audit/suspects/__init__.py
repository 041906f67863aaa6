"""Labels and images that a person should look at."""
