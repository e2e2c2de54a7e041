"""What the people and machines that look after the bridge use: health, metrics, the API and its page."""
