"""What values a step can take: limits of inputs, ranges of integers, states that may overflow."""
