"""What a model looks at, and why it says one car and not its look-alike."""
