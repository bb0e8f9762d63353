"""How the three embedded models were made. Not part of the installed package."""
