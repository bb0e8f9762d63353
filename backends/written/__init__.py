"""Judges that write their grades: a question, what is read of the answer, and how it is a score."""
