"""Stage ``evaluation``: retrieval in every query mode, against chance and the demo's oracle."""
