"""The commands of `needledrop`, by topic; libraries are imported by the command that needs them."""
