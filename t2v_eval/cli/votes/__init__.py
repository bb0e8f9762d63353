"""Commands about people's votes and ratings."""
