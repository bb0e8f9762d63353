"""Commands of battles between generators: judging them and rating by them."""
