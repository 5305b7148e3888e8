"""Watch a CNN's filters while it trains."""
