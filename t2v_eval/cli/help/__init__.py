"""What a shell shows: examples in --help, and completion of names."""
