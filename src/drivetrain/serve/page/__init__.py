"""What the pages show, from models, answers and counts to words and HTML."""
