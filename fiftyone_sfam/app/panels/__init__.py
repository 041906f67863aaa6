"""The panels: thin views of what runs have stored."""
