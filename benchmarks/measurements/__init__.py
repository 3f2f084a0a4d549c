"""What is measured; `suite.py` names it."""
