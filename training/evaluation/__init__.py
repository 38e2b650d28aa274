"""What files cost and lose, on held-out photos."""
