"""Other people's libraries on these environments; each module imports its library on first use."""
